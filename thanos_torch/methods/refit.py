"""Refit: better kept weights for a mask that is final. Spec section 7."""

import torch
from torch import Tensor

from reference.patterns import Unstructured
from thanos_torch.methods.baselines import block_losses
from thanos_torch.methods.inputs import check_matrix, full_precision
from thanos_torch.methods.result import Pruned
from thanos_torch.methods.scaled import prepare


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
    layer = prepare(weight, gram, Unstructured(0), max(1, weight.shape[-1]), damping)
    check_matrix("pruned.weight", pruned.weight)
    for name, matrix in (("pruned.weight", pruned.weight), ("pruned.mask", pruned.mask)):
        if matrix.shape != weight.shape:
            raise ValueError(
                f"{name} must have the shape {tuple(weight.shape)}, got {tuple(matrix.shape)}"
            )

    H = layer.hessian(layer.dtype)
    W = layer.scaled_weight(pruned.weight)
    diagonal = H.diagonal()
    # Minus half the gradient of (1); pruned entries are fixed, so theirs count as 0.
    residual = ((layer.weight - W) @ H).masked_fill_(pruned.mask, 0.0)
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

    loss = block_losses(layer, W - layer.weight, W.shape[1])
    return Pruned(
        layer.restored(W, pruned.mask),
        pruned.mask.clone(),
        layer.restored_losses(loss),
        pruned.diagnostics,
    )


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Per row, with 0/0 = 0: such a row is at its optimum."""
    return torch.where(denominator == 0, 0.0, numerator / denominator)
