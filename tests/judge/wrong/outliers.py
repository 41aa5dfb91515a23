"""Bugs in the rows that are to stay as they are."""

from math import floor

import numpy as np

from reference.patterns import Unstructured
from tests.judge.wrong.arrays import Array, Mask
from tests.judge.wrong.bug import Wrong, with_step
from tests.judge.wrong.right import Right

ROWS = ("outlier-rows",)


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
    # The rows of the smallest outputs are spared: a sort is read from the wrong end.
    Wrong("rows of the smallest outputs spared",
        with_step(row_values=lambda self: -Right.row_values(self)),
        "outliers", "outlier-rows-smallest", patterns=ROWS),
    # Rows are scored by Σ_j W_ij² G_jj, as in the published code: correlations are left out.
    Wrong("rows spared by norms", with_step(row_values=lambda self: self.W**2 @ np.diag(self.G)),
        "outliers", "outlier-rows-by-norms", patterns=ROWS, features=("cancelling-row",)),
    # One row more than asked for is spared, as in the published code, even with α = 0.
    Wrong("one row too many spared",
        with_step(rows_spared=lambda self: Right.rows_spared(self) + 1),
        "counts", "outlier-rows-one-too-many", patterns=("n:m", "structured", "outlier-rows")),
    # The number of outlier rows is `int(alpha * rows)` instead of the ceiling.
    Wrong("outlier rows rounded down",
        with_step(rows_spared=lambda self: floor(self.pattern.outlier_rows * self.shape[0])),
        "outliers", "outlier-rows-rounded-down", patterns=ROWS, features=("uneven-outliers",)),
    # h is read off the matrix at hand, which holds the damping.
    Wrong("rows spared by W H Wᵀ",
        with_step(row_values=lambda self: np.einsum("ij,jk,ik->i", self.W, self.H, self.W)),
        "outliers", "outlier-rows-with-damping", patterns=ROWS, features=("quiet-heavy-row",)),
    # Rows with equal outputs: the later one is spared.
    Wrong("outlier rows: ties to the higher index",
        with_step(spared=lambda self: np.argsort(
            np.argsort(-self.row_values()[::-1], kind="stable"))[::-1] < self.rows_spared()),
        "vector mask", "outlier-rows-ties", patterns=ROWS, features=("tied-rows",)),
    # Not all rows may be outlier rows: one fewer is spared, as if rounded down.
    Wrong("a row is always pruned",
        with_step(rows_spared=lambda self: min(Right.rows_spared(self), self.shape[0] - 1)),
        "outliers", "outlier-rows-rounded-down", patterns=ROWS, features=("all-rows",)),
    Wrong("outlier rows one ulp off", OneUlp, "outliers", "outlier-row-changed", patterns=ROWS),
    Wrong("outlier rows in the mask", RowsInMask, "counts", None, patterns=ROWS),
]  # fmt: skip
