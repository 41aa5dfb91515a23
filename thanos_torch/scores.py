"""How much a weight matters, and which rows are outliers. Spec sections 2, 3 and 7."""

import torch
from torch import Tensor

from reference.patterns import Pattern, Unstructured
from thanos_torch.layer import Layer

METRICS = ("wanda", "magnitude", "obs")


def scores(layer: Layer, W_J: Tensor, U_JJ: Tensor, metric: str) -> Tensor:
    """S of the columns J = [j1, b), (c, |J|): (2) or another metric of section 7."""
    if metric == "magnitude":
        return W_J.abs()
    if metric == "obs":
        return W_J.square() / U_JJ.square().sum(dim=0)  # the diagonal of (H_JJ)⁻¹ = U_JJᵀ U_JJ
    return W_J.abs() * layer.column_norms()[-W_J.shape[1] :]


def outlier_mask(layer: Layer, pattern: Pattern) -> Tensor:
    """True for the rows that stay as they are: those with the largest h_i = (W G Wᵀ)_ii. (c, 1)"""
    W = layer.weight
    outliers = torch.zeros(len(W), 1, dtype=torch.bool, device=W.device)
    count = 0 if isinstance(pattern, Unstructured) else pattern.outliers(len(W))
    if count:
        h = ((W @ layer.gram.to(W.dtype)) * W).sum(dim=1)
        outliers[h.sort(descending=True, stable=True).indices[:count]] = True
    return outliers
