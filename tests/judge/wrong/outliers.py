"""Bugs in the rows that are to stay as they are."""

from math import floor

import numpy as np

from reference.patterns import Unstructured
from tests.judge.wrong.arrays import Array, Mask
from tests.judge.wrong.bug import bug
from tests.judge.wrong.right import Right

ROWS = ("outlier-rows",)


class SmallestSpared(Right):
    """The rows of the smallest outputs are spared: a sort is read from the wrong end."""

    def row_values(self) -> Array:
        return -super().row_values()


class ByNorms(Right):
    """Rows are scored by Σ_j W_ij² G_jj, as in the published code: correlations are left out."""

    def row_values(self) -> Array:
        return np.asarray(self.W**2 @ np.diag(self.G))


class OneRowTooMany(Right):
    """One row more than asked for is spared, as in the published code, even with α = 0."""

    def rows_spared(self) -> int:
        return super().rows_spared() + 1


class RoundedDown(Right):
    """The number of outlier rows is `int(alpha * rows)` instead of the ceiling."""

    def rows_spared(self) -> int:
        assert not isinstance(self.pattern, Unstructured)
        return floor(self.pattern.outlier_rows * self.shape[0])


class OneUlp(Right):
    """Outlier rows come back one ulp off, as from a division by what they were multiplied with."""

    def handed_back(self, weights: Array, mask: Mask) -> tuple[Array, Mask]:
        rows = self.spared()[:, None]
        given = weights.astype(self.given_weight.dtype)
        return np.where(rows, np.nextafter(given, np.inf, dtype=given.dtype), given), mask


class RowsInMask(Right):
    """Outlier rows are pruned like all others and restored at the end, but not in the mask."""

    def choose(self, weights: Array, mask: Mask, j1: int, j2: int) -> Mask:
        if isinstance(self.pattern, Unstructured):
            return super().choose(weights, mask, j1, j2)
        return self.of_each_group(self.scores(weights[:, j1:j2], j1))

    def structured(self) -> tuple[Array, Mask]:
        weights, mask = super().structured()
        return weights, np.tile(mask.any(axis=0), (self.shape[0], 1))

    def handed_back(self, weights: Array, mask: Mask) -> tuple[Array, Mask]:
        return super().handed_back(np.where(self.spared()[:, None], self.W, weights), mask)


WRONG = [
    bug("rows of the smallest outputs spared", SmallestSpared, "outliers", "outlier-rows-smallest",
        patterns=ROWS),
    bug("rows spared by norms", ByNorms, "outliers", "outlier-rows-by-norms", patterns=ROWS,
        features=("cancelling-row",)),
    bug("one row too many spared", OneRowTooMany, "counts", "outlier-rows-one-too-many",
        patterns=("n:m", "structured", "outlier-rows")),
    bug("outlier rows rounded down", RoundedDown, "outliers", "outlier-rows-rounded-down",
        patterns=ROWS, features=("uneven-outliers",)),
    bug("outlier rows one ulp off", OneUlp, "outliers", "outlier-row-changed", patterns=ROWS),
    bug("outlier rows in the mask", RowsInMask, "counts", None, patterns=ROWS),
]  # fmt: skip
