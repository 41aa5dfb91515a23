"""Thanos itself. Spec sections 3 and 4, with the ablation switches of section 7."""

import numpy as np
from numpy.typing import ArrayLike

from reference.arrays import Array, Indices, Mask, Pruned
from reference.losses import block_losses
from reference.masks import (
    ordinary_rows,
    saliency,
    smallest,
    smallest_columns,
    smallest_of_each_group,
)
from reference.patterns import Ablation, Pattern, SemiStructured, Structured, column_blocks
from reference.problem import checked_problem
from reference.update import inverse, joint_update, sequential_update

UPDATES = {"joint": joint_update, "sequential": sequential_update}


def thanos(
    weight: ArrayLike,
    gram: ArrayLike,
    pattern: Pattern,
    *,
    block_size: int = 128,
    damping: float = 0.01,
    adaptive: bool = True,
    residual: str = "global",
    update: str = "joint",
    metric: str = "wanda",
    outlier_score: str = "output",
) -> Pruned:
    """Prune one layer with Thanos, block by block. Spec (2) to (6).

    weight      (c, b), W: output rows, input columns
    gram        (b, b), G = X Xᵀ of the layer's inputs
    pattern     what to remove
    block_size  B, columns in a block; Structured ignores it
    damping     γ, the share of the mean of diag G that is added to the diagonal

    Ablations, spec section 7; the defaults are the paper's algorithm:
    adaptive    False: all masks from the scores at the start, J = all columns
    residual    "local": every block removes its own share of an unstructured count
    update      "sequential": SparseGPT's update instead of (6)
    metric      "magnitude", |W|, or "obs", W²/((H_JJ)⁻¹)_jj, instead of (2), "wanda"
    outlier_score   "wanda": outlier rows by Σ_j W_ij² G_jj instead of h_i, "output"

    Raises ValueError for what spec section 2 refuses.
    """
    Ablation(adaptive, residual, update, metric, outlier_score).check()
    original, G, H = checked_problem(weight, gram, pattern, block_size, damping)
    if isinstance(pattern, Structured):
        return _structured(original, G, H, pattern, update, metric, outlier_score)

    c, b = original.shape
    rows: Indices = np.arange(c)
    if isinstance(pattern, SemiStructured):
        rows = ordinary_rows(original, G, pattern.outliers(c), outlier_score)

    W = original.copy()
    first_scores = scores(original, G, H, metric)
    mask = np.zeros((c, b), dtype=bool)
    for j1, j2 in column_blocks(b, block_size):
        J = slice(j1, b)
        S = scores(W[:, J], G[J, J], H[J, J], metric) if adaptive else first_scores[:, J]
        if isinstance(pattern, SemiStructured):
            block = _semi_structured_mask(S[:, : j2 - j1], rows, pattern)
        elif residual == "local":
            count = pattern.removed(c * j2) - pattern.removed(c * j1)
            block = smallest(S[:, : j2 - j1], count)
        else:
            block = _residual_mask(S, pattern.removed(c * b) - int(mask.sum()), j2 - j1)
        mask[:, j1:j2] = block
        W[:, J] = UPDATES[update](W[:, J], block, H[J, J])
    return Pruned(W, mask, block_losses(original, W, H, block_size))


def scores(W_J: Array, G_JJ: Array, H_JJ: Array, metric: str) -> Array:
    """How much a weight matters, (c, |J|): (2), or one of the other metrics of section 7."""
    if metric == "magnitude":
        return np.abs(W_J)
    if metric == "obs":
        return W_J**2 / np.diag(inverse(H_JJ))
    return saliency(W_J, G_JJ)


def _residual_mask(S: Array, r: int, width: int) -> Mask:
    """Global residual mask, spec (3): of the r smallest of all columns left, those in the block."""
    return smallest(S, r)[:, :width]


def _semi_structured_mask(S: Array, rows: Indices, pattern: SemiStructured) -> Mask:
    """The n smallest of every group of m of the block and every ordinary row, spec (4)."""
    mask = np.zeros(S.shape, dtype=bool)
    mask[rows] = smallest_of_each_group(S[rows], pattern.n, pattern.m)
    return mask


def _structured(
    original: Array,
    G: Array,
    H: Array,
    pattern: Structured,
    update: str,
    metric: str,
    outlier_score: str,
) -> Pruned:
    """Whole columns of the ordinary rows, one block for all columns, spec (5) and (6)."""
    c, b = original.shape
    rows = ordinary_rows(original, G, pattern.outliers(c), outlier_score)
    S = scores(original[rows], G, H, metric)
    v = np.sum(S if metric == "obs" else S**2, axis=0)  # obs is a square already
    removed = smallest_columns(v, pattern.removed(b))
    mask = np.zeros((c, b), dtype=bool)
    mask[np.ix_(rows, removed)] = True
    W = UPDATES[update](original, mask, H)
    return Pruned(W, mask, block_losses(original, W, H, b))
