"""The masked systems of the joint update, many rows at once. Spec (6)."""

import torch
from torch import Tensor

from thanos_torch.result import Diagnostics

# What a residual, relative to its right side, must fall to. It reaches the gradient multiplied by
# up to the root of the condition number of R, which the certificate bounds: docs/tolerances.md.
# Where the factor is benign that root is 4 at most, and float32's own last digit is enough.
TARGET = {torch.float32: 1e-8, torch.float64: 1e-15}
BENIGN_TARGET = 1e-7
# By how much one pass of conjugate gradients reduces it, far from the end of float32's digits.
REDUCTION = 1e-4
MAX_PASSES = 4
MAX_STEPS = 60
# Entries of the systems that are solved directly at one time: 8 MB in float64.
DIRECT_ENTRIES = 2**20


def multipliers(R: Tensor, mask: Tensor, W: Tensor, diagnostics: Diagnostics) -> tuple[Tensor, int]:
    """μ_i with μ_iq R_qq = W_iq on the picks q of row i, and 0 elsewhere, and the steps taken.

    R     (B, B), positive definite, shared by all rows: float64, or float32 where the factor of
          the layer is benign; μ, (c, B), is of the same type
    mask  (c, B), True on the picks
    W     (c, B), the weights, in the arithmetic of the run

    Every row has a system of its own, R_qq, but all of them are parts of one R. So conjugate
    gradients run on all rows together: masking a vector before and after the product with R is
    the product with R_qq, which makes a step one dense matrix product, without gathering.

    Rows that are not done in the end are solved directly.
    """
    scale = R.diagonal().rsqrt()  # to unit diagonal, which is Jacobi preconditioning
    system = R * scale * scale[:, None]
    right = (W.to(R.dtype) * scale).mul_(mask)
    benign = R.dtype == torch.float32
    solution, unfinished, steps = (_plain if benign else _refined)(system, mask, right, W.dtype)
    failed = unfinished.nonzero()[:, 0]
    if len(failed):
        directly = _direct(system.double(), mask[failed], right[failed].double())
        solution[failed] = directly.to(R.dtype)
    diagnostics.direct_rows += len(failed)
    return solution.mul_(scale), steps


def _plain(
    system: Tensor, mask: Tensor, right: Tensor, _: torch.dtype
) -> tuple[Tensor, Tensor, int]:
    """One pass in float32: the solution, which rows are unfinished, the steps."""
    return _conjugate_gradients(system, mask.to(right.dtype), right, BENIGN_TARGET)


def _refined(
    system: Tensor, mask: Tensor, right: Tensor, arithmetic: torch.dtype
) -> tuple[Tensor, Tensor, int]:
    """The same, as good as solved in float64, by iterative refinement.

    Passes in the arithmetic of the run each remove some digits of the residual, which is computed
    anew in float64 in between.
    """
    rounded = system.to(arithmetic)
    target = TARGET[arithmetic] * right.norm(dim=1)
    solution, residual = torch.zeros_like(right), right.clone()
    working = target > 0  # the rows that are not done yet
    steps = 0
    for _ in range(MAX_PASSES):
        if not working.any():
            break
        # A slice is a view where indices would copy: mostly all rows are at work.
        rows = slice(None) if working.all() else working.nonzero()[:, 0]
        picks = mask[rows]
        move, _, more = _conjugate_gradients(
            rounded, picks.to(arithmetic), residual[rows].to(arithmetic), REDUCTION
        )
        steps += more
        solution[rows] += move
        # Only the rows at work change, and only their residuals are needed again.
        residual[rows] = (right[rows] - solution[rows] @ system).mul_(picks)
        # Written so that NaN counts as not done.
        working &= ~(residual.norm(dim=1) <= target)
    return solution, working, steps


def _conjugate_gradients(
    system: Tensor, picks: Tensor, right: Tensor, reduction: float
) -> tuple[Tensor, Tensor, int]:
    """An approximate solution, (rows, B), the unfinished rows, the steps; `picks` is 1 or 0."""
    solution = torch.zeros_like(right)
    residual, direction = right.clone(), right.clone()
    product, scratch = torch.empty_like(right), torch.empty_like(right)
    norm2 = torch.linalg.vector_norm(residual, dim=1, keepdim=True).square_()  # (rows, 1)
    target = reduction**2 * norm2
    tiny = torch.finfo(right.dtype).tiny
    for step in range(MAX_STEPS):
        unfinished = ~(norm2 <= target)
        if not unfinished.any():
            return solution, unfinished[:, 0], step
        torch.mm(direction, system, out=product)
        curvature = torch.mul(direction, product, out=scratch).sum(dim=1, keepdim=True)
        # A row that is done stands still; what else becomes of its numbers does not matter.
        length = torch.where(unfinished, norm2 / curvature.clamp_min(tiny), 0.0)
        solution.addcmul_(length, direction)
        residual.addcmul_(length, product.mul_(picks), value=-1)
        previous = norm2.clamp_min(tiny)
        norm2 = torch.linalg.vector_norm(residual, dim=1, keepdim=True).square_()
        torch.addcmul(residual, norm2 / previous, direction, out=direction)
    return solution, ~(norm2 <= target)[:, 0], MAX_STEPS


def _direct(system: Tensor, mask: Tensor, right: Tensor) -> Tensor:
    """The same by Cholesky: off the picks every system is filled up with the identity."""
    solutions = []
    rows = max(1, DIRECT_ENTRIES // len(system) ** 2)
    for start in range(0, len(right), rows):
        picks, part = mask[start : start + rows], right[start : start + rows]
        both = picks[:, :, None] & picks[:, None, :]  # (rows, B, B)
        systems = torch.where(both, system, torch.diag_embed((~picks).to(system.dtype)))
        factors = torch.linalg.cholesky(systems)
        solutions.append(torch.cholesky_solve(part[:, :, None], factors)[:, :, 0])
    return torch.cat(solutions)
