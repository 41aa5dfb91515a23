"""The objective. Spec section 1."""

import torch
from torch import Tensor

from reference.patterns import Unstructured
from thanos_torch.layer import check_matrix, prepare
from thanos_torch.precision import full_precision


@torch.no_grad()
@full_precision()
def objective(
    weight: Tensor, gram: Tensor, pruned_weight: Tensor, *, damping: float = 0.01
) -> float:
    """What pruning costs: f(Ŵ) = tr(D H Dᵀ), D = Ŵ − W, in float64. Spec (1).

    weight, pruned_weight (c, b); gram (b, b). Raises ValueError for what spec section 2 refuses.
    """
    check_matrix("pruned_weight", pruned_weight)
    layer = prepare(weight, gram, Unstructured(0), max(1, weight.shape[-1]), damping)
    if pruned_weight.shape != weight.shape:
        raise ValueError(
            f"pruned_weight must have the shape {tuple(weight.shape)}, "
            f"got {tuple(pruned_weight.shape)}"
        )
    D = pruned_weight.double() - weight.double()
    loss = ((D @ layer.hessian(torch.float64)) * D).sum()
    return float(loss * 2.0**layer.gram_exponent)
