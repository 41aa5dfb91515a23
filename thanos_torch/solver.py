"""The masked systems of the joint update, all rows at once. Spec (6)."""

import torch
from torch import Tensor

from thanos_torch.result import Diagnostics

# The relative residual at which a row is done. The certificate's bounds (7) are 3e-5 and 1e-10
# on what reaches the gradient; an ill-conditioned block may amplify a residual a hundredfold.
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-14}
MAX_STEPS = 100
# Rows of a direct solve at a time: 64 systems of 128 x 128 take 4 MB in float32.
DIRECT_ENTRIES = 2**20


def multipliers(R: Tensor, mask: Tensor, W: Tensor, diagnostics: Diagnostics) -> Tensor:
    """μ_i with μ_iq R_qq = W_iq on the picks q of row i, and 0 elsewhere. (c, B)

    R     (B, B), positive definite, shared by all rows
    mask  (c, B), True on the picks
    W     (c, B), the weights

    Every row has a system of its own, R_qq, but all of them are parts of one R. So conjugate
    gradients run on all rows together: masking a vector before and after the product with R is
    the product with R_qq, which makes a step one dense matrix product, without gathering.
    Scaling to unit diagonal is Jacobi preconditioning. Rows that do not converge are solved
    directly.
    """
    scale = R.diagonal().rsqrt()  # (B,)
    system = R * scale * scale[:, None]
    right = torch.where(mask, W * scale, 0.0)
    solution, unfinished, steps = _conjugate_gradients(system, mask, right)
    diagnostics.solver_steps.append(steps)
    if unfinished.any():
        rows = unfinished.nonzero()[:, 0]
        diagnostics.direct_rows += len(rows)
        solution[rows] = _direct(system, mask[rows], right[rows])
    return solution * scale


def _conjugate_gradients(system: Tensor, mask: Tensor, right: Tensor) -> tuple[Tensor, Tensor, int]:
    """Solution, (c, B); the rows that are not there yet, (c,); the number of steps."""
    solution = torch.zeros_like(right)
    residual = right.clone()
    direction = right.clone()
    norm2 = residual.square().sum(dim=1, keepdim=True)  # (c, 1)
    target = TOLERANCE[right.dtype] ** 2 * norm2
    tiny = torch.finfo(right.dtype).tiny
    steps = 0
    while steps < MAX_STEPS and bool((norm2 > target).any()):
        product = torch.where(mask, direction @ system, 0.0)
        curvature = (direction * product).sum(dim=1, keepdim=True)
        # A row that is there stands still; the rest of its numbers may then be anything finite.
        step = torch.where(norm2 > target, norm2 / curvature.clamp_min(tiny), 0.0)
        solution.addcmul_(step, direction)
        residual.addcmul_(step, product, value=-1)
        previous = norm2
        norm2 = residual.square().sum(dim=1, keepdim=True)
        direction = residual + direction * (norm2 / previous.clamp_min(tiny))
        steps += 1
    # Written so that NaN counts as unfinished.
    return solution, ~(norm2 <= target)[:, 0], steps


def _direct(system: Tensor, mask: Tensor, right: Tensor) -> Tensor:
    """The same by Cholesky: off the picks every system is filled up with the identity."""
    width = len(system)
    solutions = []
    rows = max(1, DIRECT_ENTRIES // width**2)
    for start in range(0, len(right), rows):
        chunk, part = mask[start : start + rows], right[start : start + rows]
        both = chunk[:, :, None] & chunk[:, None, :]  # (rows, B, B)
        systems = torch.where(both, system, torch.diag_embed((~chunk).to(system.dtype)))
        factors = torch.linalg.cholesky(systems)
        solutions.append(torch.cholesky_solve(part[:, :, None], factors)[:, :, 0])
    return torch.cat(solutions)
