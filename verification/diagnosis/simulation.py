"""Thanos with switches for known mistakes, plain and slow, in float64.

Every field of `Variation` is one decision of the specification; the defaults are right.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import numpy as np

from reference.arrays import Indices
from reference.patterns import SemiStructured, Structured, Unstructured, column_blocks
from reference.update import inverse
from verification.diagnosis.evidence import Array, Evidence, Mask

# Scores of some columns from their weights, norms, and the diagonal of (H_JJ)⁻¹.
Score: TypeAlias = Callable[[Array, Array, Array], Array]


def plain_score(weights: Array, norms: Array, pivots: Array) -> Array:
    """S of spec (2)."""
    return np.abs(weights) * norms


def mean_damping(e: Evidence) -> float:
    """λ, the damping added to the diagonal."""
    mean = float(np.mean(np.diag(e.gram)))
    return e.damping * mean if mean > 0 else 1.0


def removed(e: Evidence, among: int) -> int:
    """The number of weights, or of columns of a structured pattern, to remove."""
    assert isinstance(e.pattern, Unstructured | Structured)
    return e.pattern.removed(among)


@dataclass(frozen=True)
class Variation:
    """Parameters of Thanos, after the sections of the specification.

    ties        which index of equal scores is removed first, "low" or "high"
    adaptive    whether masks come from the updated weights; False: from the original ones
    local       whether every block removes its own share of an unstructured count
    zeros       weights to remove from every group; None for n
    shift       columns by which groups begin late
    spared      values by which outlier rows are chosen, largest first
    score_rows  rows over which structured columns are scored, "ordinary" or "all"
    power       power of S in the sum over a column
    update      "joint", "sequential", "none", "stale", "triangle", "transposed", "all", "anew",
                "blockwise" (structured pruning in blocks of B)
    step        factor of the multipliers
    width       columns of a block
    """

    damping: Callable[[Evidence], float] = mean_damping
    score: Score = plain_score
    ties: str = "low"
    adaptive: bool = True
    local: bool = False
    removed: Callable[[Evidence, int], int] = removed
    zeros: int | None = None
    shift: int = 0
    outliers: Callable[[Evidence], int] = lambda e: e.outlier_count
    spared: Callable[[Evidence], Array] = lambda e: e.h
    score_rows: str = "ordinary"
    power: int = 2
    update: str = "joint"
    step: float = 1.0
    width: Callable[[Evidence], int] = lambda e: e.width


def simulate(e: Evidence, v: Variation, blocks: int | None = None) -> tuple[Array, Mask]:
    """Ŵ and mask of Thanos with the parameters `v`, after the first `blocks` blocks if given."""
    c, b = e.shape
    H = e.gram + v.damping(e) * np.eye(b)
    W, mask = e.weight.copy(), np.zeros((c, b), dtype=bool)
    ordinary = np.argsort(-v.spared(e), kind="stable")[v.outliers(e) :]
    for j1, j2 in islice(column_blocks(b, max(1, min(v.width(e), b))), blocks):
        R = inverse(H[j1:, j1:])
        source = W if v.adaptive else e.weight
        mask[:, j1:j2] = _block_mask(e, v, source[:, j1:], R, mask, ordinary, (j1, j2))
        W = _moved(e, v, W, mask, H, (j1, j2))
    return W, mask


def _block_mask(
    e: Evidence,
    v: Variation,
    weights: Array,
    R: Array,
    mask: Mask,
    ordinary: Indices,
    block: tuple[int, int],
) -> Mask:
    (c, b), (j1, j2) = e.shape, block
    S = v.score(weights, e.norms[j1:], np.diag(R))
    chosen = np.zeros((c, j2 - j1), dtype=bool)
    if isinstance(e.pattern, SemiStructured):
        rolled = np.roll(S[ordinary, : j2 - j1], -v.shift, axis=1)
        groups = rolled.reshape(-1, e.pattern.m)
        zeros = e.pattern.n if v.zeros is None else v.zeros
        picks = np.array([smallest(group, zeros, v.ties) for group in groups])
        chosen[ordinary] = np.roll(picks.reshape(rolled.shape), v.shift, axis=1)
    elif isinstance(e.pattern, Structured):
        rows = ordinary if v.score_rows == "ordinary" else np.arange(c)
        values = np.sum(S[rows, : j2 - j1] ** v.power, axis=0)
        count = v.removed(e, j2) - (v.removed(e, j1) if j1 else 0)
        chosen[ordinary] = smallest(values, count, v.ties)
    elif v.local:
        count = v.removed(e, c * j2) - v.removed(e, c * j1)
        chosen = smallest(S[:, : j2 - j1], count, v.ties)
    else:
        count = v.removed(e, c * b) - int(mask[:, :j1].sum())
        chosen = smallest(S, count, v.ties)[:, : j2 - j1]
    return chosen


def smallest(values: Array, count: int, ties: str = "low") -> Mask:
    """Mask of the `count` smallest values; ties go to the lower or the higher index."""
    flat = values.ravel()
    order = np.argsort(flat, kind="stable")
    if ties == "high":
        order = len(flat) - 1 - np.argsort(flat[::-1], kind="stable")
    mask = np.zeros(len(flat), dtype=bool)
    mask[order[: max(count, 0)]] = True
    return mask.reshape(values.shape)


def _moved(
    e: Evidence, v: Variation, W: Array, mask: Mask, H: Array, block: tuple[int, int]
) -> Array:
    """The weights after the update of one block."""
    j1, j2 = block
    if v.update in ("sequential", "blockwise"):
        width = 1 if v.update == "sequential" else e.block_size
        for k in range(j1, j2, width):
            W = _jointly(W, mask[:, k : min(k + width, j2)], inverse(H[k:, k:]), k, v.step)
        return W
    if v.update == "anew":  # from the original weights, all columns free
        return _jointly(e.weight, mask, inverse(H), 0, v.step)
    if v.update == "all":  # from the current weights, all columns free
        now = np.zeros_like(mask)
        now[:, j1:j2] = mask[:, j1:j2]
        return np.where(mask, 0.0, _jointly(W, now, inverse(H), 0, v.step))
    return _jointly(W, mask[:, j1:j2], _rows_of_inverse(v, H, j1, j2), j1, v.step)


def _rows_of_inverse(v: Variation, H: Array, j1: int, j2: int) -> Array:
    """R_kJ, or what a mistake uses instead."""
    if v.update == "none":
        return np.hstack([np.eye(j2 - j1), np.zeros((j2 - j1, len(H) - j2))])
    if v.update == "stale":
        return inverse(H)[j1:j2, j1:]
    R = inverse(H[j1:, j1:])
    if v.update in ("triangle", "transposed"):
        U = np.linalg.cholesky(R).T  # R = Uᵀ U
        if v.update == "triangle":
            return np.asarray((U @ U.T)[: j2 - j1])
        width = j2 - j1
        R[:width, width:] = U[:width, :width] @ U[:width, width:]
    return np.asarray(R[: j2 - j1])


def _jointly(W: Array, block: Mask, R: Array, j1: int, step: float) -> Array:
    """(6) for every row. `block` masks the columns from j1 on, R holds their rows of (H_JJ)⁻¹."""
    moved = W.copy()
    for i in np.flatnonzero(block.any(axis=1)):
        q = np.flatnonzero(block[i])
        mu = step * np.linalg.solve(R[np.ix_(q, q)], W[i, j1 + q])
        moved[i, j1:] -= mu @ R[q]
        moved[i, j1 + q] = 0.0
    return moved
