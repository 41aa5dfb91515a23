"""Refit: better kept weights for a mask that is final. Spec section 7."""

import torch
from torch import Tensor

from thanos_torch.methods.factor import block_losses
from thanos_torch.methods.inputs import check_matrix, check_same_shape, full_precision
from thanos_torch.methods.problem import prepare
from thanos_torch.methods.result import Pruned


@torch.no_grad()
@full_precision()
def refit(
    weight: Tensor, gram: Tensor, pruned: Pruned, *, steps: int, damping: float = 0.01
) -> Pruned:
    """Minimise (1) over the kept weights of every row, all columns free. Spec section 7.

    `steps` steps of conjugate gradients from Ŵ, Jacobi-preconditioned, every row on its own; the
    product with H is the only heavy part. The mask stays. `block_losses` has one entry, f(Ŵ): a
    refit knows no blocks. Arguments as for `thanos`; raises ValueError for a negative `steps` too.
    """
    if steps < 0:
        raise ValueError(f"steps must not be negative, got {steps}")
    layer = prepare(weight, gram, damping)
    check_matrix("pruned.weight", pruned.weight)
    check_same_shape("pruned.weight", pruned.weight, weight)
    check_same_shape("pruned.mask", pruned.mask, weight)

    H = layer.hessian(layer.dtype)
    dense, W = layer.scaled_weight(), layer.scaled_weight(pruned.weight)
    diagonal = H.diagonal()
    # Minus half the gradient of (1); pruned entries are fixed, so theirs count as 0.
    residual = ((dense - W) @ H).masked_fill_(pruned.mask, 0.0)
    direction = residual / diagonal
    steepness = (residual * direction).sum(dim=1, keepdim=True)  # (c, 1)
    for _ in range(steps):
        product = (direction @ H).masked_fill_(pruned.mask, 0.0)
        step = _ratio(steepness, (direction * product).sum(dim=1, keepdim=True))
        W.addcmul_(step, direction)
        residual.addcmul_(step, product, value=-1)
        scaled = residual / diagonal
        previous, steepness = steepness, (residual * scaled).sum(dim=1, keepdim=True)
        direction = scaled.addcmul_(_ratio(steepness, previous), direction)

    loss = block_losses(layer, W - dense, W.shape[1])
    return layer.pruned(W, pruned.mask.clone(), loss, pruned.diagnostics)


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Per row, with 0/0 = 0: such a row is at its optimum."""
    return torch.where(denominator == 0, 0.0, numerator / denominator)
