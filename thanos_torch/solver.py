"""The masked systems of the joint update, many rows at once. Spec (6)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from reference.patterns import column_blocks

# What a residual, relative to its right side, must fall to. It reaches the gradient multiplied by
# up to the root of the condition number of R, which the certificate bounds: docs/tolerances.md.
# Where the factor is benign that root is 4 at most, and float32's own last digit is enough.
TARGET = {torch.float32: 1e-8, torch.float64: 1e-15}
BENIGN_TARGET = 1e-7
# By how much one pass of conjugate gradients reduces it, far from the end of float32's digits.
REDUCTION = 1e-4
MAX_PASSES = 4
MAX_STEPS = 60
# A device takes this many steps a pass without asking whether fewer would do: on real layers a
# pass took at most 33 on a CPU.
DEVICE_STEPS = 40
# Entries of the systems that are solved directly at one time: 8 MB in float64.
DIRECT_ENTRIES = 2**20


@dataclass
class MaskedSolver:
    """Solves the systems of one layer, block by block, and counts.

    Every row has a system of its own, R_qq, but all of them are parts of one R. So conjugate
    gradients run on all rows together: masking a vector before and after the product with R is
    the product with R_qq, which makes a step one dense matrix product, without gathering.

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

    def multipliers(self, R: Tensor, mask: Tensor, W: Tensor) -> Tensor:
        """μ_i with μ_iq R_qq = W_iq on the picks q of row i, and 0 elsewhere: (c, B), as R.

        R     (B, B), positive definite, shared by all rows: float64, or float32 where the factor
              of the layer is benign
        mask  (c, B), True on the picks
        W     (c, B), the weights, in the arithmetic of the run
        """
        scale = R.diagonal().rsqrt()  # to unit diagonal, which is Jacobi preconditioning
        system = R * scale * scale[:, None]
        right = (W.to(R.dtype) * scale).mul_(mask)
        self.steps = 0
        if self.directly:
            solution = self._direct(system.double(), mask, right.double()).to(R.dtype)
        else:
            solve = self._once if R.dtype == torch.float32 else self._refined
            solution, unfinished = solve(system, mask, right, W.dtype)
            self._finish(system, mask, right, solution, unfinished)
        return solution.mul_(scale)

    def _finish(
        self, system: Tensor, mask: Tensor, right: Tensor, solution: Tensor, unfinished: Tensor
    ) -> None:
        """What conjugate gradients left over: done directly, or on a device taken note of."""
        if self.device.type != "cpu":
            self.unfinished += unfinished.sum()
            return
        failed = unfinished.nonzero()[:, 0]
        if len(failed):
            solved = self._direct(system.double(), mask[failed], right[failed].double())
            solution[failed] = solved.to(solution.dtype)

    def _once(
        self, system: Tensor, mask: Tensor, right: Tensor, arithmetic: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """One pass in float32: the solution, and which rows are unfinished."""
        return self._pass(system, mask.to(arithmetic), right, BENIGN_TARGET)

    def _refined(
        self, system: Tensor, mask: Tensor, right: Tensor, arithmetic: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """The same, as good as solved in float64, by iterative refinement.

        Passes in the arithmetic of the run each remove some digits of the residual, which is
        computed anew in float64 in between.
        """
        rounded = system.to(arithmetic)
        target = TARGET[arithmetic] * right.norm(dim=1)
        solution, residual = torch.zeros_like(right), right.clone()
        working = target > 0  # the rows that are not done yet
        for _ in range(MAX_PASSES):
            if self._all_done(working):
                break
            rows = self._rows(working)
            picks = mask[rows]
            move, _ = self._pass(
                rounded, picks.to(arithmetic), residual[rows].to(arithmetic), REDUCTION
            )
            solution[rows] += move
            # Only the rows at work change, and only their residuals are needed again.
            residual[rows] = (right[rows] - solution[rows] @ system).mul_(picks)
            # Written so that NaN counts as not done.
            working &= ~(residual.norm(dim=1) <= target)
        return solution, working

    def _pass(
        self, system: Tensor, picks: Tensor, right: Tensor, reduction: float
    ) -> tuple[Tensor, Tensor]:
        """Conjugate gradients: a solution, (rows, B), the unfinished rows; `picks` is 1 or 0."""
        solution = torch.zeros_like(right)
        residual, direction = right.clone(), right.clone()
        product, scratch = torch.empty_like(right), torch.empty_like(right)
        norm2 = torch.linalg.vector_norm(residual, dim=1, keepdim=True).square_()  # (rows, 1)
        target = reduction**2 * norm2
        unfinished = ~(norm2 <= target)
        tiny = torch.finfo(right.dtype).tiny
        for _ in range(MAX_STEPS if self.device.type == "cpu" else DEVICE_STEPS):
            if self._all_done(unfinished):
                break
            torch.mm(direction, system, out=product)
            curvature = torch.mul(direction, product, out=scratch).sum(dim=1, keepdim=True)
            # A row that is done stands still; what else becomes of its numbers does not matter.
            length = torch.where(unfinished, norm2 / curvature.clamp_min_(tiny), 0.0)
            solution.addcmul_(length, direction)
            residual.addcmul_(length, product.mul_(picks), value=-1)
            previous = norm2.clamp_min_(tiny)
            norm2 = torch.linalg.vector_norm(residual, dim=1, keepdim=True).square_()
            torch.addcmul(residual, norm2 / previous, direction, out=direction)
            unfinished = ~(norm2 <= target)
            self.steps += 1
        return solution, unfinished[:, 0]

    def _all_done(self, unfinished: Tensor) -> bool:
        """Never asked of a device, which would have to be waited for."""
        return self.device.type == "cpu" and not unfinished.any()

    def _rows(self, working: Tensor) -> slice | Tensor:
        """The rows at work. A slice is a view where indices would copy: mostly all are at work."""
        if self.device.type != "cpu" or working.all():
            return slice(None)
        return working.nonzero()[:, 0]

    def _direct(self, system: Tensor, mask: Tensor, right: Tensor) -> Tensor:
        """By Cholesky: off the picks every system is filled up with the identity."""
        solutions = []
        for start, end in column_blocks(len(right), max(1, DIRECT_ENTRIES // len(system) ** 2)):
            picks, part = mask[start:end], right[start:end]
            both = picks[:, :, None] & picks[:, None, :]  # (rows, B, B)
            systems = torch.where(both, system, torch.diag_embed((~picks).to(system.dtype)))
            factors, failed = torch.linalg.cholesky_ex(systems)
            self.unfinished += (failed > 0).sum()
            solutions.append(torch.cholesky_solve(part[:, :, None], factors)[:, :, 0])
        self.direct_rows += len(right)
        return torch.cat(solutions)
