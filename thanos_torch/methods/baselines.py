"""The baselines magnitude, Wanda and SparseGPT. Spec section 6."""

import torch
from torch import Tensor

from reference.patterns import (
    Pattern,
    SemiStructured,
    Structured,
    Unstructured,
    refuse_outlier_rows,
)
from thanos_torch.methods.factor import FactorCache, block_losses
from thanos_torch.methods.inputs import full_precision
from thanos_torch.methods.masks import smallest, smallest_of_each_group, smallest_of_each_row
from thanos_torch.methods.problem import ScaledLayer, prepare
from thanos_torch.methods.result import Diagnostics, Pruned
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
    layer = prepare(weight, gram, damping)
    pattern.check(len(weight), weight.shape[1], block_size)
    W = layer.scaled_weight()
    return _zeroed(layer, W, _mask(W.abs(), pattern, each_row=False), block_size)


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
    layer = prepare(weight, gram, damping)
    pattern.check(len(weight), weight.shape[1], block_size)
    W = layer.scaled_weight()
    score = W.abs() * layer.column_norms()
    return _zeroed(layer, W, _mask(score, pattern, each_row=True), block_size)


def whole_columns(score: Tensor, count: int) -> Tensor:
    """Mask of the `count` columns of least mean score, for all rows, (c, columns)."""
    return smallest(score.mean(dim=0, keepdim=True), count).expand_as(score)


def _mask(score: Tensor, pattern: Pattern, *, each_row: bool) -> Tensor:
    """The mask of a method that only zeroes; unstructured of the whole layer, or of each row."""
    if isinstance(pattern, SemiStructured):
        return smallest_of_each_group(score, pattern.n, pattern.m)
    if isinstance(pattern, Structured):
        return whole_columns(score, pattern.removed(score.shape[1])).clone()
    if each_row:
        return smallest_of_each_row(score, pattern.removed(score.shape[1]))
    return smallest(score, pattern.removed(score.numel()))


def _zeroed(layer: ScaledLayer, W: Tensor, mask: Tensor, block_size: int) -> Pruned:
    losses = block_losses(layer, torch.where(mask, -W, 0.0), block_size)
    weight = torch.where(mask, 0.0, layer.original)
    return Pruned(weight, mask, layer.restored_losses(losses), Diagnostics())


@torch.no_grad()
@full_precision()
def sparsegpt(
    weight: Tensor,
    gram: Tensor,
    pattern: Pattern,
    *,
    block_size: int = 128,
    damping: float = 0.01,
    factors: FactorCache | None = None,
) -> Pruned:
    """Column by column: choose, zero, make up. Frantar and Alistarh, arXiv 2301.00774.

    Arguments and errors as for `thanos`. Refuses outlier rows.
    """
    refuse_outlier_rows("sparsegpt", pattern)
    layer = prepare(weight, gram, damping)
    pattern.check(len(weight), weight.shape[1], block_size)
    factor = (factors or FactorCache()).of(layer)
    W, U = layer.scaled_weight(), factor.U

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

    mask, losses = walk_blocks(W, U, block_size, step)
    return layer.pruned(W, mask, losses, Diagnostics(factor.arithmetic))
