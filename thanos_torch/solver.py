"""The masked systems of the joint update, all rows at once. Spec (6)."""

import torch
from torch import Tensor

from thanos_torch.result import Diagnostics

# What a residual, relative to its right side, must fall to. It reaches the gradient multiplied by
# up to the root of the condition number of R, which the certificate bounds: docs/tolerances.md.
TARGET = {torch.float32: 1e-8, torch.float64: 1e-15}
# By how much one pass of conjugate gradients reduces it, far from the end of float32's digits.
REDUCTION = 1e-4
MAX_PASSES = 4
MAX_STEPS = 60
# Entries of the systems that are solved directly at one time: 8 MB in float64.
DIRECT_ENTRIES = 2**20


def multipliers(R: Tensor, mask: Tensor, W: Tensor, diagnostics: Diagnostics) -> Tensor:
    """μ_i with μ_iq R_qq = W_iq on the picks q of row i, and 0 elsewhere: (c, B), float64.

    R     (B, B), positive definite, shared by all rows, float64
    mask  (c, B), True on the picks
    W     (c, B), the weights, in the arithmetic of the run

    Every row has a system of its own, R_qq, but all of them are parts of one R. So conjugate
    gradients run on all rows together: masking a vector before and after the product with R is
    the product with R_qq, which makes a step one dense matrix product, without gathering.

    Iterative refinement makes this as good as solving in float64: passes in the arithmetic of
    the run each remove some digits of the residual, which is computed anew in float64 in between.
    Rows that are not done after the last pass are solved directly.
    """
    scale = R.diagonal().rsqrt()  # to unit diagonal, which is Jacobi preconditioning
    system = R * scale * scale[:, None]
    rounded = system.to(W.dtype)
    right = (W.double() * scale).masked_fill_(~mask, 0.0)
    target = TARGET[W.dtype] * right.norm(dim=1)
    solution, residual = torch.zeros_like(right), right.clone()
    working = target > 0  # the rows that are not done yet
    steps = 0
    for _ in range(MAX_PASSES):
        if not working.any():
            break
        # A slice is a view where indices would copy: mostly all rows are at work.
        rows = slice(None) if working.all() else working.nonzero()[:, 0]
        picks = mask[rows]
        pass_solution, pass_steps = _conjugate_gradients(
            rounded, picks.to(W.dtype), residual[rows].to(W.dtype)
        )
        steps += pass_steps
        solution[rows] += pass_solution
        # Only the rows at work change, and only their residuals are needed again.
        residual[rows] = (right[rows] - solution[rows] @ system).masked_fill_(~picks, 0.0)
        # Written so that NaN counts as not done.
        working &= ~(residual.norm(dim=1) <= target)
    failed = working.nonzero()[:, 0]
    if len(failed):
        solution[failed] = _direct(system, mask[failed], right[failed])
    diagnostics.solver_steps.append(steps)
    diagnostics.direct_rows += len(failed)
    return solution * scale


def _conjugate_gradients(system: Tensor, picks: Tensor, right: Tensor) -> tuple[Tensor, int]:
    """An approximate solution, (rows, B), and the number of steps; `picks` is 1 on the mask."""
    solution = torch.zeros_like(right)
    residual = right.clone()
    direction = right.clone()
    norm2 = residual.square().sum(dim=1, keepdim=True)  # (rows, 1)
    target = REDUCTION**2 * norm2
    tiny = torch.finfo(right.dtype).tiny
    for step in range(MAX_STEPS):
        unfinished = norm2 > target
        if not unfinished.any():
            return solution, step
        product = (direction @ system).mul_(picks)
        curvature = (direction * product).sum(dim=1, keepdim=True)
        # A row that is done stands still; what else becomes of its numbers does not matter.
        length = torch.where(unfinished, norm2 / curvature.clamp_min(tiny), 0.0)
        solution.addcmul_(length, direction)
        residual.addcmul_(length, product, value=-1)
        previous = norm2.clamp_min(tiny)
        norm2 = residual.square().sum(dim=1, keepdim=True)
        direction.mul_(norm2 / previous).add_(residual)
    return solution, MAX_STEPS


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
