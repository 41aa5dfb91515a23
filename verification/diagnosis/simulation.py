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
from verification.diagnosis.evidence import Array, Evidence, Mask, rounded
from verification.diagnosis.suspect import Refuted

# Scores of some columns from their weights, norms, and the diagonal of (H_JJ)⁻¹.
Score: TypeAlias = Callable[[Array, Array, Array], Array]
Block: TypeAlias = tuple[int, int]  # columns [j1, j2)


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


def blocks_of(width: int) -> Callable[[Evidence], list[Block]]:
    """Blocks of a width, left to right; the last may be narrower."""
    return lambda e: list(column_blocks(e.shape[1], max(1, min(width, e.shape[1]))))


@dataclass(frozen=True)
class Variation:
    """Parameters of Thanos, after the sections of the specification.

    gram        G, which may lack its symmetry
    damping     λ of a block
    ties        which index of equal scores is removed first, "low" or "high"; "largest": the
                largest scores go
    adaptive    whether masks come from the updated weights; False: from the original ones
    local       whether every block removes its own share of an unstructured count
    zeros       weights to remove from every group; None for n
    shift       columns by which groups begin late
    spared      values by which outlier rows are chosen, largest first
    row_ties    which index of equal rows is spared first, "low" or "high"
    score_rows  rows over which structured columns are scored, "ordinary" or "all"
    power       power of S in the sum over a column
    update      "joint", "sequential", "none", "stale", "triangle", "transposed", "all", "anew",
                "inside" (columns behind the block stay), "alone" (the block is solved without the
                columns behind it), "blockwise" (structured pruning in blocks of B)
    step        factor of the multipliers
    unsolved    rows whose removed weights are zeroed and nothing else
    products    type to which the factors of the product in (6) are rounded, or ""
    stored      type to which weights are rounded between blocks, or ""
    blocks      the blocks of columns
    """

    gram: Callable[[Evidence], Array] = lambda e: e.gram
    damping: Callable[[Evidence, Block], float] = lambda e, _: mean_damping(e)
    score: Score = plain_score
    ties: str = "low"
    adaptive: bool = True
    local: bool = False
    removed: Callable[[Evidence, int], int] = removed
    zeros: int | None = None
    shift: int = 0
    outliers: Callable[[Evidence], int] = lambda e: e.outlier_count
    spared: Callable[[Evidence], Array] = lambda e: e.h
    row_ties: str = "low"
    score_rows: str = "ordinary"
    power: int = 2
    update: str = "joint"
    step: float = 1.0
    unsolved: tuple[int, ...] = ()
    products: str = ""
    stored: str = ""
    blocks: Callable[[Evidence], list[Block]] = lambda e: blocks_of(e.width)(e)


def simulate(e: Evidence, v: Variation, blocks: int | None = None) -> tuple[Array, Mask]:
    """Ŵ and mask of Thanos with the parameters `v`, after the first `blocks` blocks if given.

    Raises Refuted as soon as the mask differs from that of the output.
    """
    c, b = e.shape
    gram, chosen_blocks = v.gram(e), v.blocks(e)
    W, mask = e.weight.copy(), np.zeros((c, b), dtype=bool)
    ordinary = _ordinary_rows(e, v)
    for k, (j1, j2) in enumerate(islice(chosen_blocks, blocks)):
        H = gram + v.damping(e, (j1, j2)) * np.eye(b)
        R = inverse(H[j1:, j1:])
        source = (W if v.adaptive else e.weight)[:, j1:]
        mask[:, j1:j2] = _block_mask(e, v, source, np.diag(R), mask, ordinary, (j1, j2))
        final = chosen_blocks[k + 1][0] if k + 1 < len(chosen_blocks) else b
        decided = e.mask[:, : min(j2, final)]  # a padded layer has more rows and columns
        if (mask[: len(decided), : decided.shape[1]] != decided).any():
            raise Refuted
        W = _moved(e, v, W, mask, (H, R), (j1, j2))
        if v.stored:
            W = rounded(W, v.stored)
    return W, mask


def inverse(matrix: Array) -> Array:
    """The inverse of a matrix that need not be symmetric. Raises LinAlgError."""
    if (matrix == matrix.T).all():
        U = np.linalg.inv(np.linalg.cholesky(matrix))
        return np.asarray(U.T @ U)
    return np.asarray(np.linalg.inv(matrix))


def _ordinary_rows(e: Evidence, v: Variation) -> Indices:
    values = v.spared(e)
    order = np.argsort(-values, kind="stable")
    if v.row_ties == "high":
        order = len(values) - 1 - np.argsort(-values[::-1], kind="stable")
    return np.asarray(order[v.outliers(e) :])


def _block_mask(
    e: Evidence,
    v: Variation,
    weights: Array,
    pivots: Array,
    mask: Mask,
    ordinary: Indices,
    block: Block,
) -> Mask:
    (c, b), (j1, j2) = e.shape, block
    S = v.score(weights, e.norms[j1:], pivots)
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
    """Mask of the `count` smallest values; ties go to the lower or the higher index.

    With "largest", the largest values instead.
    """
    flat = -values.ravel() if ties == "largest" else values.ravel()
    order = np.argsort(flat, kind="stable")
    if ties == "high":
        order = len(flat) - 1 - np.argsort(flat[::-1], kind="stable")
    mask = np.zeros(len(flat), dtype=bool)
    mask[order[: max(count, 0)]] = True
    return mask.reshape(values.shape)


def _moved(
    e: Evidence, v: Variation, W: Array, mask: Mask, H_and_R: tuple[Array, Array], block: Block
) -> Array:
    """The weights after the update of one block."""
    (j1, j2), (H, R) = block, H_and_R
    if v.update in ("sequential", "blockwise"):
        width = 1 if v.update == "sequential" else e.block_size
        for k in range(j1, j2, width):
            W = _jointly(v, W, mask[:, k : min(k + width, j2)], inverse(H[k:, k:]), k)
        return W
    if v.update == "anew":  # from the original weights, all columns free
        return _jointly(v, e.weight, mask, inverse(H), 0)
    if v.update == "all":  # from the current weights, all columns free
        now = np.zeros_like(mask)
        now[:, j1:j2] = mask[:, j1:j2]
        return np.where(mask, 0.0, _jointly(v, W, now, inverse(H), 0))
    return _jointly(v, W, mask[:, j1:j2], _rows_of_inverse(v, H, R, j1, j2), j1)


def _rows_of_inverse(v: Variation, H: Array, R: Array, j1: int, j2: int) -> Array:
    """R_kJ, or what a mistake uses instead."""
    width, behind = j2 - j1, np.zeros((j2 - j1, len(H) - j2))
    if v.update == "none":
        return np.hstack([np.eye(width), behind])
    if v.update == "stale":
        return inverse(H)[j1:j2, j1:]
    if v.update == "alone":
        return np.hstack([inverse(H[j1:j2, j1:j2]), behind])
    if v.update == "inside":
        return np.hstack([R[:width, :width], behind])
    if v.update in ("triangle", "transposed"):
        U = np.linalg.cholesky(R).T  # R = Uᵀ U
        if v.update == "triangle":
            return np.asarray((U @ U.T)[:width])
        return np.hstack([R[:width, :width], U[:width, :width] @ U[:width, width:]])
    return np.asarray(R[:width])


def _jointly(v: Variation, W: Array, block: Mask, R: Array, j1: int) -> Array:
    """(6) for every row. `block` masks the columns from j1 on, R holds their rows of (H_JJ)⁻¹."""
    moved = W.copy()
    for i in np.flatnonzero(block.any(axis=1)):
        q = np.flatnonzero(block[i])
        if i not in v.unsolved:
            mu, factor = v.step * np.linalg.solve(R[np.ix_(q, q)].T, W[i, j1 + q]), R[q]
            if v.products:
                mu, factor = rounded(mu, v.products), rounded(factor, v.products)
            moved[i, j1:] -= mu @ factor
        moved[i, j1 + q] = 0.0
    return moved
