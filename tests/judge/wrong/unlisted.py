"""Bugs that no known mistake describes. They get no name, or one that is true of them."""

from collections.abc import Iterator

import numpy as np

from reference.patterns import SemiStructured, Unstructured
from tests.judge.wrong.arrays import Array, Indices, Mask
from tests.judge.wrong.bug import IN_BLOCKS, Wrong, with_arguments, with_step
from tests.judge.wrong.right import Right


class RightToLeft(Right):
    """Blocks are taken from the last to the first."""

    def blocks(self) -> Iterator[tuple[int, int]]:
        yield from reversed(list(super().blocks()))


class FirstBlockNarrow(Right):
    """The first block is the narrow one."""

    def blocks(self) -> Iterator[tuple[int, int]]:
        b, narrow = self.shape[1], self.shape[1] % self.block_size
        if narrow:
            yield 0, narrow
        for j1 in range(narrow, b, self.block_size):
            yield j1, j1 + self.block_size


class Twice(Right):
    """Kept weights are moved twice."""

    def made_up(self, row: Array, q: Indices, R: Array) -> Array:
        moved = super().made_up(row, q, R)
        return np.asarray(np.where(np.isin(np.arange(len(row)), q), 0.0, 2 * moved - row))


class OriginalMultipliers(Right):
    """Multipliers come from the original weights, and not from those that have moved."""

    def update(self, weights: Array, mask: Mask, j1: int, j2: int) -> Array:
        R = self.inverse_rows(j1, j2)
        updated = weights.copy()
        for i, row in enumerate(mask[:, j1:j2]):
            q = np.flatnonzero(row)
            if len(q):
                mu = self.multipliers(R[np.ix_(q, q)], self.W[i, j1 + q])
                updated[i, j1:] -= mu @ R[q]
                updated[i, j1 + q] = 0.0
        return updated


class HessianForInverse(Right):
    """H_JJ stands where its inverse should."""

    def inverse_rows(self, j1: int, j2: int) -> Array:
        return self.H[j1:j2, j1:]


class PerRowCounts(Right):
    """Unstructured masks are chosen in each row of a block, as Wanda does."""

    def choose(self, weights: Array, mask: Mask, j1: int, j2: int) -> Mask:
        if not isinstance(self.pattern, Unstructured):
            return super().choose(weights, mask, j1, j2)
        count = self.weights_removed(j2) - self.weights_removed(j1)
        return self.of_each_row(self.scores(weights[:, j1:j2], j1), count)


class GroupsOfRows(Right):
    """n:m along the rows of a column, of the transposed weight."""

    def of_each_group(self, values: Array) -> Mask:
        assert isinstance(self.pattern, SemiStructured)
        rows = len(values) // self.pattern.m * self.pattern.m
        mask = np.zeros(values.shape, dtype=bool)
        groups = values[:rows].T.reshape(-1, self.pattern.m)
        mask[:rows] = self.of_each_row(groups, self.pattern.n).reshape(-1, rows).T
        return mask


class DeadLast(Right):
    """Dead columns are never removed."""

    def scores(self, weights: Array, j1: int) -> Array:
        dead = np.diag(self.G)[j1 : j1 + weights.shape[1]] == 0
        return np.where(dead, 1e300, super().scores(weights, j1))


class DoubledGram(Right):
    """H is G + Gᵀ + λI with the λ of G."""

    def hessian(self) -> Array:
        return super().hessian() + self.G


def fixed(damping: float) -> type[Right]:
    """The damping is a constant, whatever was asked for."""
    return with_arguments(damping=lambda self: damping)


def columns_by(summary: str) -> type[Right]:
    """Columns are scored by another summary than the sum of squares."""
    return with_step(column_values=lambda self, rows: getattr(np, summary)(
        self.scores(self.W, 0)[rows], axis=0))  # fmt: skip


MANY, PLAIN = ("many-blocks",), ("unstructured", "n:m", "structured")

# Each with the keys that are true of it, or of the same output on its layer.
UNLISTED: list[tuple[Wrong, set[str]]] = [
    (Wrong("λ with γ = 0.1 always", fixed(0.1), "updates", None, patterns=PLAIN), {"damping-off"}),
    (Wrong("blocks from right to left", RightToLeft, "updates", None, patterns=IN_BLOCKS,
           features=MANY), set()),
    (Wrong("first block narrow", FirstBlockNarrow, "updates", None, patterns=IN_BLOCKS,
           features=("ragged-last-block", *MANY)), set()),
    (Wrong("the sign of the update",
           with_step(multipliers=lambda self, R_qq, removed: -Right.multipliers(
               self, R_qq, removed)), "updates", None), {"half-step"}),
    (Wrong("moved twice", Twice, "updates", None), {"half-step"}),
    (Wrong("multipliers of original weights", OriginalMultipliers, "updates", None,
           patterns=IN_BLOCKS, features=MANY), set()),
    (Wrong("H for its inverse", HessianForInverse, "updates", None), set()),
    (Wrong("counts in each row", PerRowCounts, "counts", None, patterns=("unstructured",)), set()),
    (Wrong("groups of rows", GroupsOfRows, "counts", None, patterns=("n:m",)), set()),
    (Wrong("dead columns stay", DeadLast, "masks", None, patterns=("unstructured", "n:m"),
           features=("dead-columns",)), set()),
    (Wrong("G + Gᵀ with the damping of G", DoubledGram, "updates", None), {"damping-off"}),
    (Wrong("norms by sums of |G|",
           with_step(norms=lambda self: np.abs(self.G).sum(axis=0)), "masks", None,
           patterns=IN_BLOCKS), set()),
    (Wrong("columns by their largest score", columns_by("max"), "masks", None,
           patterns=("structured",)), set()),
    (Wrong("columns by their median score", columns_by("median"), "masks", None,
           patterns=("structured",)), set()),
    (Wrong("multipliers one by one",
           with_step(multipliers=lambda self, R_qq, removed: removed / np.diag(R_qq)),
           "updates", None), set()),
    (Wrong("λ of the median",
           with_step(added=lambda self, diagonal: self.damping * float(np.median(diagonal))),
           "updates", None), {"damping-off"}),
    (Wrong("small entries of H dropped",
           with_step(hessian=lambda self: np.where(
               np.abs(Right.hessian(self)) < 1e-3 * np.diag(self.G).max(), 0.0,
               Right.hessian(self)) + 0.1 * np.diag(self.G).mean() * np.eye(len(self.G))),
           "updates", None), {"damping-off"}),
    (Wrong("rows spared by their largest weight",
           with_step(row_values=lambda self: np.abs(self.W).max(axis=1)), "outliers", None,
           patterns=("outlier-rows",), features=("quiet-heavy-row",)),
     {"outlier-rows-with-damping"}),
    (Wrong("H_JJ with the damping of γ / B",
           with_step(added=lambda self, diagonal: Right.added(self, diagonal) / self.block_size),
           "updates", None), {"damping-off"}),
]  # fmt: skip
