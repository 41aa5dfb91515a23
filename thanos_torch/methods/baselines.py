"""The baselines magnitude, Wanda and SparseGPT. Spec section 6."""

import torch
from torch import Tensor

from reference.patterns import (
    Pattern,
    SemiStructured,
    Unstructured,
    column_blocks,
    refuse_outlier_rows,
)
from thanos_torch.methods.factor import inverse_factor, reversed_cholesky
from thanos_torch.methods.inputs import full_precision
from thanos_torch.methods.masks import smallest, smallest_of_each_group, smallest_of_each_row
from thanos_torch.methods.result import Diagnostics, Pruned
from thanos_torch.methods.scaled import ScaledLayer, prepare
from thanos_torch.methods.update import choosing_sequential_update, sequential_update, walk_blocks


@torch.no_grad()
@full_precision()
def magnitude(
    weight: Tensor,
    gram: Tensor,
    pattern: Pattern,
    *,
    block_size: int = 128,
    damping: float = 0.01,
) -> Pruned:
    """Remove the smallest |W|; move nothing. Spec section 6.

    Arguments and errors as for `thanos`; the Gram matrix and `block_size` matter only for the
    losses. Refuses outlier rows.
    """
    refuse_outlier_rows("magnitude", pattern)
    layer = prepare(weight, gram, pattern, block_size, damping)
    score = layer.weight.abs()
    if isinstance(pattern, Unstructured):
        return _zeroed(layer, smallest(score, pattern.removed(score.numel())), block_size)
    return _zeroed(layer, _groups_or_columns(score, pattern), block_size)


@torch.no_grad()
@full_precision()
def wanda(
    weight: Tensor,
    gram: Tensor,
    pattern: Pattern,
    *,
    block_size: int = 128,
    damping: float = 0.01,
) -> Pruned:
    """Remove the smallest S of every row; move nothing. Sun et al., arXiv 2306.11695.

    Arguments and errors as for `thanos`; `block_size` matters only for the losses. Refuses
    outlier rows.
    """
    refuse_outlier_rows("wanda", pattern)
    layer = prepare(weight, gram, pattern, block_size, damping)
    score = layer.weight.abs() * layer.column_norms()
    if isinstance(pattern, Unstructured):
        picks = smallest_of_each_row(score, pattern.removed(score.shape[1]))
        return _zeroed(layer, picks, block_size)
    return _zeroed(layer, _groups_or_columns(score, pattern), block_size)


def whole_columns(score: Tensor, count: int) -> Tensor:
    """Mask of the `count` columns of least mean score, for all rows, (c, columns)."""
    return smallest(score.mean(dim=0, keepdim=True), count).expand_as(score)


def _groups_or_columns(score: Tensor, pattern: Pattern) -> Tensor:
    if isinstance(pattern, SemiStructured):
        return smallest_of_each_group(score, pattern.n, pattern.m)
    return whole_columns(score, pattern.removed(score.shape[1])).clone()


def _zeroed(layer: ScaledLayer, mask: Tensor, block_size: int) -> Pruned:
    D = torch.where(mask, -layer.weight, 0.0)
    return Pruned(
        torch.where(mask, 0.0, layer.original),
        mask,
        layer.restored_losses(block_losses(layer, D, block_size)),
        Diagnostics(),
    )


def block_losses(layer: ScaledLayer, D: Tensor, block_size: int) -> Tensor:
    """‖E_k‖² with E = D Mᵀ, in the layer's units, (blocks,) float64. Spec T3, T4."""
    M = reversed_cholesky(layer)
    E2 = (D @ M.T).double().square()
    return torch.stack([E2[:, j1:j2].sum() for j1, j2 in column_blocks(D.shape[1], block_size)])


@torch.no_grad()
@full_precision()
def sparsegpt(
    weight: Tensor,
    gram: Tensor,
    pattern: Pattern,
    *,
    block_size: int = 128,
    damping: float = 0.01,
) -> Pruned:
    """Column by column: choose, zero, make up. Frantar and Alistarh, arXiv 2301.00774.

    Arguments and errors as for `thanos`. Refuses outlier rows.
    """
    refuse_outlier_rows("sparsegpt", pattern)
    layer = prepare(weight, gram, pattern, block_size, damping)
    diagnostics = Diagnostics()
    U = inverse_factor(layer, diagnostics)

    def step(W: Tensor, block: tuple[int, int], _: Tensor) -> tuple[Tensor, Tensor]:
        j1, j2 = block
        W_k, U_kk = W[:, j1:j2], U[j1:j2, j1:j2]
        if isinstance(pattern, SemiStructured):
            E, mask = choosing_sequential_update(W_k, U_kk, pattern.n, pattern.m)
            return mask, E
        score = (W_k / U_kk.diagonal()).square()
        if isinstance(pattern, Unstructured):
            c = len(W)
            mask = smallest(score, pattern.removed(c * j2) - pattern.removed(c * j1))
        else:
            mask = whole_columns(score, pattern.removed(j2) - pattern.removed(j1))
        return mask, sequential_update(W_k, mask, U_kk)

    return walk_blocks(layer, U, block_size, step, diagnostics)
