"""The masked systems of the joint update, many rows at once. Spec (6).

Every row has a system of its own, R_qq, but all of them are parts of one R. So conjugate gradients
run on all rows together: masking a vector before and after the product with R is the product with
R_qq, which makes a step dense matrix products, without gathering. The preconditioner is made the
same way: (R⁻¹)_qq out of the one R⁻¹. It halves the steps: docs/solvers.md.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from reference.patterns import column_blocks
from thanos_torch.methods.devices import on_host
from thanos_torch.methods.factor import BENIGN_INFLATION, Factor

# Norm that a residual must reach, relative to its right side. It enters the gradient multiplied by
# up to the root of the condition number of R, which the certificate bounds: docs/tolerances.md.
# Where the factor is benign that root is 4 at most, and float32's own last digit is enough.
TARGET = {torch.float32: 1e-8, torch.float64: 1e-15}
BENIGN_TARGET = 1e-7
# By how much one pass of conjugate gradients reduces it, far from the end of float32's digits.
REDUCTION = 1e-4
MAX_PASSES = 4
# Entries of the systems that are solved directly at one time: 8 MB in float64.
DIRECT_ENTRIES = 2**20


@dataclass(frozen=True)
class BlockSystem:
    """What the systems of all rows of a block share, scaled to unit diagonal.

    scale    (B,), 1 / sqrt(diag R), which makes the diagonal 1
    exact    (B, B), R scaled: float64, or float32 where the factor is benign
    rounded  (B, B), the same in the arithmetic of the run
    inverse  (B, B), its inverse, in the arithmetic of the run
    """

    scale: Tensor
    exact: Tensor
    rounded: Tensor
    inverse: Tensor


class MaskedSolver(ABC):
    """Solves the systems of one layer, block by block; `solver_for` chooses the kind.

    Call `system` once for each block, then `multipliers` for some of its rows at a time.

    directly     whether all rows are solved by Cholesky
    steps        conjugate-gradient steps of each block so far, of the rows that took most
    direct_rows  rows that were solved by Cholesky, in all calls
    unfinished   rows that were not solved, in all calls: (), on the device
    """

    max_steps: ClassVar[int]  # of one pass

    def __init__(self, factor: Factor, *, directly: bool = False) -> None:
        self.directly = directly
        self.steps: list[int] = []
        self.direct_rows = 0
        self.unfinished = torch.zeros((), dtype=torch.int64, device=factor.U.device)
        self._benign = factor.benign

    @abstractmethod
    def _is_benign(self, inverse: Tensor) -> bool:
        """Whether the columns of this block's R are known to be nearly independent."""

    @abstractmethod
    def _reached(self, residual: Tensor, goal: Tensor) -> bool:
        """Whether the residuals of all rows are known to have reached their goals."""

    @abstractmethod
    def _rows(self, working: Tensor) -> slice | Tensor | None:
        """The rows to go on with, at least those that are `working`; None if none is."""

    @abstractmethod
    def _left_over(self, unfinished: Tensor) -> Tensor | None:
        """The rows to solve directly, of those that conjugate gradients did not finish, if any."""

    def system(self, U: Tensor) -> BlockSystem:
        """The system of the next block, R = Uᵀ U; U is its part of the factor, (B, B)."""
        self.steps.append(0)
        identity = torch.eye(len(U), dtype=U.dtype, device=U.device)
        root = torch.linalg.solve_triangular(U, identity, upper=True, out=identity)
        root.mul_(torch.linalg.vector_norm(U, dim=0)[:, None])
        # As a product with its own transpose it is positive definite in any precision.
        inverse = root @ root.T
        del identity, root  # a block may be as wide as the layer
        # Where the columns of H are not nearly independent, those of R may be, which suffices.
        accurate = U if self._benign or self._is_benign(inverse) else U.double()
        scale = torch.linalg.vector_norm(accurate, dim=0).reciprocal_()
        exact = (accurate.T @ accurate).mul_(scale).mul_(scale[:, None])
        return BlockSystem(scale, exact, exact.to(U.dtype), inverse)

    def multipliers(self, block: BlockSystem, mask: Tensor, W: Tensor) -> Tensor:
        """μ_i with μ_iq R_qq = W_iq on the picks q of row i, and 0 elsewhere: (c, B), as `exact`.

        mask  (c, B), True on the picks
        W     (c, B), the weights, in the arithmetic of the run
        """
        right = (W.to(block.exact.dtype) * block.scale).mul_(mask)
        if self.directly:
            solution = self._direct(block, mask, right)
        else:
            solve = self._once if block.exact.dtype == torch.float32 else self._refined
            solution, unfinished, steps = solve(block, mask, right)
            rows = self._left_over(unfinished)
            if rows is not None:
                solution[rows] = self._direct(block, mask[rows], right[rows])
            self.steps[-1] = max(self.steps[-1], steps)
        return solution.mul_(block.scale)

    def _once(self, block: BlockSystem, mask: Tensor, right: Tensor) -> tuple[Tensor, Tensor, int]:
        """One pass in float32: the solution, which rows are unfinished, the steps."""
        return self._pass(block, mask.to(right.dtype), right, BENIGN_TARGET * _norms(right))

    def _refined(
        self, block: BlockSystem, mask: Tensor, right: Tensor
    ) -> tuple[Tensor, Tensor, int]:
        """The same, as good as solved in float64, by iterative refinement.

        Passes in the arithmetic of the run each remove some digits of the residual, which is
        computed anew in float64 in between.
        """
        arithmetic, taken = block.rounded.dtype, 0
        norms = _norms(right)  # (rows, 1)
        target = TARGET[arithmetic] * norms
        solution, residual = torch.zeros_like(right), right.clone()
        working = target[:, 0] > 0  # the rows that are not done yet
        for _ in range(MAX_PASSES):
            rows = self._rows(working)
            if rows is None:
                break
            picks = mask[rows].to(arithmetic)
            # No further than needed: the last pass has less to do than the others.
            goal = torch.maximum(REDUCTION * norms[rows], target[rows] / 2).to(arithmetic)
            move, _, steps = self._pass(block, picks, residual[rows].to(arithmetic), goal)
            taken += steps
            solution[rows] += move
            # Only the rows at work change, and only their residuals are needed again.
            product = torch.addmm(right[rows], solution[rows], block.exact, alpha=-1)
            residual[rows] = product.mul_(picks)
            # Written so that NaN counts as not done.
            norms = _norms(residual)
            working &= ~(norms <= target)[:, 0]
        return solution, working, taken

    def _pass(
        self, block: BlockSystem, picks: Tensor, right: Tensor, goal: Tensor
    ) -> tuple[Tensor, Tensor, int]:
        """Conjugate gradients: a solution, (rows, B), the unfinished rows, (rows,), the steps.

        picks  (rows, B), 1 or 0
        goal   norms that the residuals shall reach, (rows, 1)

        Rows that are done go on with the others. They get better still, or stand still at a
        residual of 0; to leave them out would cost another pass over memory.
        """
        solution, residual, steps = torch.zeros_like(right), right.clone(), 0
        product, scratch = torch.empty_like(right), torch.empty_like(right)
        direction = (residual @ block.inverse).mul_(picks)
        slope = torch.mul(residual, direction, out=scratch).sum(dim=1, keepdim=True)  # (rows, 1)
        tiny = torch.finfo(right.dtype).tiny
        while steps < self.max_steps and not self._reached(residual, goal):
            torch.mm(direction, block.rounded, out=product)
            curvature = torch.mul(direction, product, out=scratch).sum(dim=1, keepdim=True)
            length = slope / curvature.clamp_min_(tiny)
            solution.addcmul_(length, direction)
            residual.addcmul_(length, product.mul_(picks), value=-1)
            torch.mm(residual, block.inverse, out=product).mul_(picks)
            previous = slope.clamp_min_(tiny)
            slope = torch.mul(residual, product, out=scratch).sum(dim=1, keepdim=True)
            torch.addcmul(product, slope / previous, direction, out=direction)
            steps += 1
        return solution, ~(_norms(residual) <= goal)[:, 0], steps

    def _direct(self, block: BlockSystem, mask: Tensor, right: Tensor) -> Tensor:
        """By Cholesky in float64: off the picks every system is filled up with the identity."""
        system, solutions = block.exact.double(), []
        for start, end in column_blocks(len(right), max(1, DIRECT_ENTRIES // len(system) ** 2)):
            picks, part = mask[start:end], right[start:end].double()
            both = picks[:, :, None] & picks[:, None, :]  # (rows, B, B)
            systems = torch.where(both, system, torch.diag_embed((~picks).double()))
            factors, failed = torch.linalg.cholesky_ex(systems)
            self.unfinished += (failed > 0).sum()
            solutions.append(torch.cholesky_solve(part[:, :, None], factors)[:, :, 0])
        self.direct_rows += len(right)
        return torch.cat(solutions).to(right.dtype)


class HostSolver(MaskedSolver):
    """On a CPU looking at numbers is free: stop as soon as possible, solve what is left over."""

    max_steps = 60

    def _is_benign(self, inverse: Tensor) -> bool:
        return bool((inverse.diagonal() <= BENIGN_INFLATION).all())

    def _reached(self, residual: Tensor, goal: Tensor) -> bool:
        return bool((_norms(residual) <= goal).all())

    def _rows(self, working: Tensor) -> slice | Tensor | None:
        if working.all():
            return slice(None)  # a view where indices would copy: mostly all rows are at work
        return self._left_over(working)

    def _left_over(self, unfinished: Tensor) -> Tensor | None:
        rows = unfinished.nonzero()[:, 0]
        return rows if len(rows) else None


class DeviceSolver(MaskedSolver):
    """A device is never waited for: take as many steps as could be needed, on all rows.

    `unfinished` says after the last block whether the layer has to be done again, `directly`.
    """

    # On all layers of SmolLM2-135M all passes of a block together took 34 at most on a CPU.
    max_steps = 40

    def _is_benign(self, inverse: Tensor) -> bool:
        return False

    def _reached(self, residual: Tensor, goal: Tensor) -> bool:
        return False

    def _rows(self, working: Tensor) -> slice | Tensor | None:
        return slice(None)

    def _left_over(self, unfinished: Tensor) -> Tensor | None:
        self.unfinished += unfinished.sum()
        return None


def solver_for(factor: Factor, *, directly: bool = False) -> MaskedSolver:
    """The solver for a layer on the device of its factor."""
    kind = HostSolver if on_host(factor.U) else DeviceSolver
    return kind(factor, directly=directly)


def _norms(rows: Tensor) -> Tensor:
    """The norm of every row, (rows, 1)."""
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return norms
