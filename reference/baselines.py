"""What Thanos is compared with. Spec section 6."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from reference.arrays import Array, Mask, Pruned
from reference.losses import block_losses
from reference.masks import (
    saliency,
    smallest,
    smallest_columns,
    smallest_of_each_group,
    smallest_of_each_row,
)
from reference.patterns import (
    Pattern,
    SemiStructured,
    Structured,
    Unstructured,
    column_blocks,
    refuse_outlier_rows,
)
from reference.problem import checked_problem
from reference.update import inverse, joint_update


def magnitude(
    weight: ArrayLike,
    gram: ArrayLike,
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
    W, _, H = checked_problem(weight, gram, pattern, block_size, damping)
    mask = _zeroing_mask(np.abs(W), pattern, _smallest_of_layer)
    return _zeroed(W, mask, H, block_size)


def wanda(
    weight: ArrayLike,
    gram: ArrayLike,
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
    W, G, H = checked_problem(weight, gram, pattern, block_size, damping)
    mask = _zeroing_mask(saliency(W, G), pattern, _smallest_of_rows)
    return _zeroed(W, mask, H, block_size)


def sparsegpt(
    weight: ArrayLike,
    gram: ArrayLike,
    pattern: Pattern,
    *,
    block_size: int = 128,
    damping: float = 0.01,
) -> Pruned:
    """Column by column: choose, zero, make up. Frantar and Alistarh, arXiv 2301.00774.

    Arguments and errors as for `thanos`. Refuses outlier rows.
    """
    refuse_outlier_rows("sparsegpt", pattern)
    original, _, H = checked_problem(weight, gram, pattern, block_size, damping)
    c, b = original.shape
    # (U_jj)² is the first entry of (H_JJ)⁻¹ for J = [j, b), spec section 4.
    pivots = np.array([inverse(H[j:, j:])[0, 0] for j in range(b)])

    W = original.copy()
    mask = np.zeros((c, b), dtype=bool)
    for j1, j2 in column_blocks(b, block_size):
        for j in range(j1, j2):
            if isinstance(pattern, SemiStructured):
                if j % pattern.m == 0:  # the sweep reaches a group: choose in it now
                    group = slice(j, j + pattern.m)
                    mask[:, group] = smallest_of_each_row(
                        W[:, group] ** 2 / pivots[group], pattern.n
                    )
            elif j == j1:
                block = slice(j1, j2)
                mask[:, block] = _sparsegpt_block(W[:, block] ** 2 / pivots[block], pattern, j1)
            W[:, j:] = joint_update(W[:, j:], mask[:, j : j + 1], H[j:, j:])
    return Pruned(W, mask, block_losses(original, W, H, block_size))


def _sparsegpt_block(score: Array, pattern: Unstructured | Structured, j1: int) -> Mask:
    """SparseGPT's mask of one block: the block's own share of the count."""
    c, width = score.shape
    j2 = j1 + width
    if isinstance(pattern, Unstructured):
        return smallest(score, pattern.removed(c * j2) - pattern.removed(c * j1))
    return _whole_columns(score, pattern.removed(j2) - pattern.removed(j1))


def _zeroing_mask(
    score: Array, pattern: Pattern, unstructured: Callable[[Array, Unstructured], Mask]
) -> Mask:
    """The mask of a method that only zeroes; the two differ in score and unstructured rule."""
    if isinstance(pattern, Unstructured):
        return unstructured(score, pattern)
    if isinstance(pattern, SemiStructured):
        return smallest_of_each_group(score, pattern.n, pattern.m)
    return _whole_columns(score, pattern.removed(score.shape[1]))


def _smallest_of_layer(score: Array, pattern: Unstructured) -> Mask:
    return smallest(score, pattern.removed(score.size))


def _smallest_of_rows(score: Array, pattern: Unstructured) -> Mask:
    return smallest_of_each_row(score, pattern.removed(score.shape[1]))


def _whole_columns(score: Array, count: int) -> Mask:
    """The `count` columns of least mean score."""
    mask = np.zeros(score.shape, dtype=bool)
    mask[:, smallest_columns(score.mean(axis=0), count)] = True
    return mask


def _zeroed(W: Array, mask: Mask, H: Array, block_size: int) -> Pruned:
    pruned = np.where(mask, 0.0, W)
    return Pruned(pruned, mask, block_losses(W, pruned, H, block_size))
