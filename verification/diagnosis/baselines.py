"""The baselines with switches for known mistakes. Spec section 6."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reference.patterns import SemiStructured, Structured, Unstructured, column_blocks
from reference.update import joint_update
from verification.diagnosis.evidence import Array, Evidence, Mask
from verification.diagnosis.simulation import Score, inverse, mean_damping, removed, smallest


@dataclass(frozen=True)
class Baseline:
    """A baseline's parameters; the defaults are right, and each field can introduce one mistake.

    score     of magnitude, Wanda or SparseGPT
    removed   how many weights, or columns, go from among so many
    more      weights or columns that are removed beyond the count
    by_rows   whether unstructured masks are chosen within each row
    at_start  SparseGPT: whether groups are chosen when their block begins
    inside    SparseGPT: whether columns behind the block stay
    damping   SparseGPT: λ
    """

    score: Score
    removed: Callable[[Evidence, int], int] = removed
    more: int = 0
    by_rows: bool = False
    at_start: bool = False
    inside: bool = False
    damping: Callable[[Evidence], float] = mean_damping


def zeroed(e: Evidence, v: Baseline) -> tuple[Array, Mask]:
    """Magnitude or Wanda with the parameters `v`."""
    scores = v.score(e.weight, e.norms, np.ones(e.shape[1]))
    mask = _choice(e, v, scores, 0, e.shape[1])
    return np.where(mask, 0.0, e.weight), mask


def swept(e: Evidence, v: Baseline) -> tuple[Array, Mask]:
    """SparseGPT with the parameters `v`."""
    b = e.shape[1]
    H = e.gram + v.damping(e) * np.eye(b)
    pivots = np.array([inverse(H[j:, j:])[0, 0] for j in range(b)])
    W, mask = e.weight.copy(), np.zeros(e.shape, dtype=bool)
    for j1, j2 in column_blocks(b, e.block_size):
        at_start = W.copy()
        for j in range(j1, j2):
            k1, k2 = (j, j + e.group) if e.group > 1 else (j1, j2)
            if j == j1 or (e.group > 1 and j % e.group == 0):
                source = at_start if v.at_start else W
                scores = v.score(source[:, k1:k2], e.norms[k1:k2], pivots[k1:k2])
                mask[:, k1:k2] = _choice(e, v, scores, k1, k2)
            J = slice(j, j2 if v.inside else b)
            W[:, J] = joint_update(W[:, j:], mask[:, j : j + 1], H[j:, j:])[:, : J.stop - j]
    return W, mask


def _choice(e: Evidence, v: Baseline, scores: Array, j1: int, j2: int) -> Mask:
    """The mask of columns [j1, j2)."""
    c, pattern = e.shape[0], e.pattern
    if isinstance(pattern, SemiStructured):
        groups = scores.reshape(-1, pattern.m)
        return np.array([smallest(g, pattern.n) for g in groups]).reshape(scores.shape)
    if isinstance(pattern, Structured):
        count = v.removed(e, j2) - (v.removed(e, j1) if j1 else 0)
        return np.tile(smallest(scores.mean(axis=0), count + v.more), (c, 1))
    assert isinstance(pattern, Unstructured)
    if v.by_rows:
        count = v.removed(e, j2) - v.removed(e, j1)
        return np.array([smallest(row, count + v.more) for row in scores])
    return smallest(scores, v.removed(e, c * j2) - v.removed(e, c * j1) + v.more)
