"""The masked systems of the joint update, many rows at once. Spec (6).

Every row has a system of its own, R_qq, but all of them are parts of one R. So conjugate gradients
run on all rows together: masking a vector before and after the product with R is the product with
R_qq, which makes a step dense matrix products, without gathering. The preconditioner is made the
same way: (R⁻¹)_qq out of the one R⁻¹. It halves the steps: docs/solvers.md.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from reference.patterns import column_blocks
from thanos_torch.methods.factor import BENIGN_INFLATION

# What a residual, relative to its right side, must fall to. It reaches the gradient multiplied by
# up to the root of the condition number of R, which the certificate bounds: docs/tolerances.md.
# Where the factor is benign that root is 4 at most, and float32's own last digit is enough.
TARGET = {torch.float32: 1e-8, torch.float64: 1e-15}
BENIGN_TARGET = 1e-7
# By how much one pass of conjugate gradients reduces it, far from the end of float32's digits.
REDUCTION = 1e-4
MAX_PASSES = 4
MAX_STEPS = 60
# A device takes this many steps a pass without asking whether fewer would do: on all layers of
# SmolLM2-135M all passes of a block together took 34 at most on a CPU.
DEVICE_STEPS = 40
# Entries of the systems that are solved directly at one time: 8 MB in float64.
DIRECT_ENTRIES = 2**20


@dataclass(frozen=True)
class BlockSystem:
    """What the systems of all rows of a block share, scaled to unit diagonal.

    scale    (B,), the roots of 1 / diag R, which make it so
    exact    (B, B), R scaled: float64, or float32 where the factor is benign
    rounded  the same in the arithmetic of the run
    inverse  its inverse, in the arithmetic of the run
    """

    scale: Tensor
    exact: Tensor
    rounded: Tensor
    inverse: Tensor

    @classmethod
    def of(cls, U: Tensor, *, benign: bool) -> "BlockSystem":
        """The block with this part of U, in the arithmetic of the run, and R = Uᵀ U.

        benign  whether the columns of H are nearly independent. If not, those of R may still be,
                and that suffices; a device is not asked.
        """
        identity = torch.eye(len(U), dtype=U.dtype, device=U.device)
        root = torch.linalg.solve_triangular(U, identity, upper=True, out=identity)
        root.mul_(torch.linalg.vector_norm(U, dim=0)[:, None])
        # As a product with its own transpose it is positive definite in any precision.
        inverse = root @ root.T
        del identity, root  # a block may be as wide as the layer
        if not benign and U.device.type == "cpu":
            benign = bool((inverse.diagonal() <= BENIGN_INFLATION).all())
        accurate = U if benign else U.double()
        scale = torch.linalg.vector_norm(accurate, dim=0).reciprocal_()
        exact = (accurate.T @ accurate).mul_(scale).mul_(scale[:, None])
        return cls(scale, exact, exact.to(U.dtype), inverse)


@dataclass
class MaskedSolver:
    """Solves the systems of one layer, block by block, and counts.

    On a CPU rows that are not done in the end are solved directly. A device is never waited for:
    it takes as many steps as could be needed, and `unfinished` tells afterwards whether the layer
    has to be done again, `directly`.

    directly     whether all rows are solved by Cholesky
    steps        conjugate-gradient steps of the last call
    direct_rows  rows that were solved by Cholesky, in all calls
    unfinished   rows that were not solved, in all calls: (), on the device
    """

    device: torch.device
    directly: bool = False
    steps: int = 0
    direct_rows: int = 0
    unfinished: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.unfinished = torch.zeros((), dtype=torch.int64, device=self.device)

    def multipliers(self, block: BlockSystem, mask: Tensor, W: Tensor) -> Tensor:
        """μ_i with μ_iq R_qq = W_iq on the picks q of row i, and 0 elsewhere: (c, B), as `exact`.

        mask  (c, B), True on the picks
        W     (c, B), the weights, in the arithmetic of the run
        """
        right = (W.to(block.exact.dtype) * block.scale).mul_(mask)
        self.steps = 0
        if self.directly:
            solution = self._direct(block, mask, right)
        else:
            solve = self._once if block.exact.dtype == torch.float32 else self._refined
            solution, unfinished = solve(block, mask, right)
            self._finish(block, mask, right, solution, unfinished)
        return solution.mul_(block.scale)

    def _finish(
        self, block: BlockSystem, mask: Tensor, right: Tensor, solution: Tensor, unfinished: Tensor
    ) -> None:
        """What conjugate gradients left over: done directly, or on a device taken note of."""
        if self.device.type != "cpu":
            self.unfinished += unfinished.sum()
            return
        failed = unfinished.nonzero()[:, 0]
        if len(failed):
            solution[failed] = self._direct(block, mask[failed], right[failed])

    def _once(self, block: BlockSystem, mask: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """One pass in float32: the solution, and which rows are unfinished."""
        return self._pass(block, mask.to(right.dtype), right, BENIGN_TARGET * _norms(right))

    def _refined(self, block: BlockSystem, mask: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """The same, as good as solved in float64, by iterative refinement.

        Passes in the arithmetic of the run each remove some digits of the residual, which is
        computed anew in float64 in between.
        """
        arithmetic = block.rounded.dtype
        norms = _norms(right)  # (rows, 1)
        target = TARGET[arithmetic] * norms
        solution, residual = torch.zeros_like(right), right.clone()
        working = target[:, 0] > 0  # the rows that are not done yet
        for _ in range(MAX_PASSES):
            if self.device.type == "cpu" and not working.any():
                break
            rows = self._rows(working)
            picks = mask[rows].to(arithmetic)
            # No further than needed: the last pass has less to do than the others.
            goal = torch.maximum(REDUCTION * norms[rows], target[rows] / 2).to(arithmetic)
            move, _ = self._pass(block, picks, residual[rows].to(arithmetic), goal)
            solution[rows] += move
            # Only the rows at work change, and only their residuals are needed again.
            product = torch.addmm(right[rows], solution[rows], block.exact, alpha=-1)
            residual[rows] = product.mul_(picks)
            # Written so that NaN counts as not done.
            norms = _norms(residual)
            working &= ~(norms <= target)[:, 0]
        return solution, working

    def _pass(
        self, block: BlockSystem, picks: Tensor, right: Tensor, goal: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Conjugate gradients: a solution, (rows, B), the unfinished rows; `picks` is 1 or 0.

        goal  norms that the residuals shall reach, (rows, 1)

        Rows that are done go on with the others: they get better still, or stand still at a
        residual of 0, and to tell them apart would cost another pass.
        """
        solution, residual = torch.zeros_like(right), right.clone()
        product, scratch = torch.empty_like(right), torch.empty_like(right)
        direction = (residual @ block.inverse).mul_(picks)
        slope = torch.mul(residual, direction, out=scratch).sum(dim=1, keepdim=True)  # (rows, 1)
        tiny = torch.finfo(right.dtype).tiny
        for _ in range(MAX_STEPS if self.device.type == "cpu" else DEVICE_STEPS):
            if self.device.type == "cpu" and (_norms(residual) <= goal).all():
                break
            torch.mm(direction, block.rounded, out=product)
            curvature = torch.mul(direction, product, out=scratch).sum(dim=1, keepdim=True)
            length = slope / curvature.clamp_min_(tiny)
            solution.addcmul_(length, direction)
            residual.addcmul_(length, product.mul_(picks), value=-1)
            torch.mm(residual, block.inverse, out=product).mul_(picks)
            previous = slope.clamp_min_(tiny)
            slope = torch.mul(residual, product, out=scratch).sum(dim=1, keepdim=True)
            torch.addcmul(product, slope / previous, direction, out=direction)
            self.steps += 1
        return solution, ~(_norms(residual) <= goal)[:, 0]

    def _rows(self, working: Tensor) -> slice | Tensor:
        """The rows at work. A slice is a view where indices would copy: mostly all are at work."""
        if self.device.type != "cpu" or working.all():
            return slice(None)
        return working.nonzero()[:, 0]

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


def _norms(rows: Tensor) -> Tensor:
    """Of every row, (rows, 1)."""
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return norms
