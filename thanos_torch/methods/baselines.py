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
from thanos_torch.methods.checks import Checks
from thanos_torch.methods.factor import FactorCache, block_losses
from thanos_torch.methods.inputs import full_precision
from thanos_torch.methods.masks import (
    Candidates,
    smallest,
    smallest_of_each_group,
    smallest_of_each_row,
)
from thanos_torch.methods.problem import ScaledLayer, prepare
from thanos_torch.methods.result import Diagnostics, Pruned
from thanos_torch.methods.strategy import strategy_for
from thanos_torch.methods.update import walk_blocks


@torch.no_grad()
@full_precision()
def magnitude(
    weight: Tensor,
    gram: Tensor,
    pattern: Pattern,
    *,
    block_size: int = 128,
    damping: float = 0.01,
    checks: Checks | None = None,
) -> Pruned:
    """Remove the smallest |W|; move nothing. Spec section 6.

    Arguments and errors as for `thanos`; the Gram matrix and `block_size` matter only for the
    losses. Refuses outlier rows.
    """
    refuse_outlier_rows("magnitude", pattern)
    layer = prepare(weight, gram, damping)
    layer.check(pattern, block_size)
    W = layer.scaled_weight()
    pruned = _zeroed(layer, W, _mask(W.abs(), pattern, each_row=False), block_size)
    return layer.checked(pruned, checks)


@torch.no_grad()
@full_precision()
def wanda(
    weight: Tensor,
    gram: Tensor,
    pattern: Pattern,
    *,
    block_size: int = 128,
    damping: float = 0.01,
    checks: Checks | None = None,
) -> Pruned:
    """Remove the smallest S of every row; move nothing. Sun et al., arXiv 2306.11695.

    Arguments and errors as for `thanos`; `block_size` matters only for the losses. Refuses
    outlier rows.
    """
    refuse_outlier_rows("wanda", pattern)
    layer = prepare(weight, gram, damping)
    layer.check(pattern, block_size)
    W = layer.scaled_weight()
    score = W.abs() * layer.column_norms()
    pruned = _zeroed(layer, W, _mask(score, pattern, each_row=True), block_size)
    return layer.checked(pruned, checks)


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
    checks: Checks | None = None,
) -> Pruned:
    """Column by column: choose, zero, make up. Frantar and Alistarh, arXiv 2301.00774.

    Arguments and errors as for `thanos`. Refuses outlier rows.
    """
    refuse_outlier_rows("sparsegpt", pattern)
    layer = prepare(weight, gram, damping)
    layer.check(pattern, block_size)
    factor = (factors or FactorCache()).of(layer)
    W, U = layer.scaled_weight(), factor.U
    strategy = strategy_for(factor, block_size)
    pivots = U.diagonal().contiguous()

    def step(W: Tensor, block: tuple[int, int], picks: Tensor) -> Tensor:
        j1, j2 = block
        if isinstance(pattern, SemiStructured):
            return strategy.choosing_update(W, block, pattern.n, pattern.m, picks)
        own = Candidates(W[:, j1:j2], pivots[j1:j2], "sparsegpt")
        if isinstance(pattern, Unstructured):
            c = len(W)
            strategy.smallest(own, pattern.removed(c * j2) - pattern.removed(c * j1), picks)
        else:
            count = pattern.removed(j2) - pattern.removed(j1)
            picks.copy_(whole_columns(own.scores(), count))
        return strategy.sequential_update(W, block, picks)

    mask, losses = walk_blocks(W, U, block_size, step)
    return layer.checked(layer.pruned(W, mask, losses, Diagnostics(factor.arithmetic)), checks)
