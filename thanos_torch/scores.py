"""How much a weight matters, and which rows are outliers. Spec sections 2, 3 and 7."""

import torch
from torch import Tensor

from reference.patterns import Pattern, Unstructured
from thanos_torch.layer import Layer


def column_factors(layer: Layer, U_JJ: Tensor, metric: str) -> Tensor | None:
    """What (2), or another metric of section 7, needs to know of the columns J, (|J|,)."""
    if metric == "magnitude":
        return None
    if metric == "obs":
        return U_JJ.square().sum(dim=0)  # the diagonal of (H_JJ)⁻¹ = U_JJᵀ U_JJ
    return layer.column_norms()[-len(U_JJ) :]


def scores(W: Tensor, factors: Tensor | None, metric: str) -> Tensor:
    """S of some weights, in new memory; `factors` are those of their columns."""
    if factors is None:
        return W.abs()
    if metric == "obs":
        return W.square().div_(factors)
    return W.abs().mul_(factors)


def outlier_mask(layer: Layer, pattern: Pattern, outlier_score: str) -> Tensor:
    """True for the rows that stay as they are: those with the largest h_i = (W G Wᵀ)_ii. (c, 1)

    outlier_score  "wanda": the largest Σ_j W_ij² G_jj instead, an ablation of section 7
    """
    W = layer.weight
    outliers = torch.zeros(len(W), 1, dtype=torch.bool, device=W.device)
    count = 0 if isinstance(pattern, Unstructured) else pattern.outliers(len(W))
    if count:
        if outlier_score == "wanda":
            h = W.square().mul_(layer.squared_norms()).sum(dim=1)
        else:
            h = ((W @ layer.scaled_gram(W.dtype)) * W).sum(dim=1)
        largest = h.sort(descending=True, stable=True).indices[:count]
        outliers.index_fill_(0, largest, True)
    return outliers
