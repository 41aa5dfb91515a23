"""Bugs in which weights go, while their number is right."""

import numpy as np

from reference.patterns import Unstructured
from tests.judge.wrong.arrays import Array, Mask
from tests.judge.wrong.bug import IN_BLOCKS, Wrong, with_step
from tests.judge.wrong.right import Right

GROUPS = ("n:m", "outlier-rows")


# (2) with G_jj instead of its root: the accumulated squares are taken for norms.
NormNotRooted = with_step(norms=lambda self: np.diag(self.G))
# The mask is chosen once, from the weights as they were before any update, as in Wanda.
ChosenOnce = with_step(choose=lambda self, weights, mask, j1, j2: Right.choose(
    self, self.W, mask, j1, j2))  # fmt: skip


class BlockLocal(Right):
    """Every block gives its own share of the count, as in SparseGPT: no global residual mask."""

    def choose(self, weights: Array, mask: Mask, j1: int, j2: int) -> Mask:
        if not isinstance(self.pattern, Unstructured):
            return super().choose(weights, mask, j1, j2)
        rows = self.shape[0]
        count = self.weights_removed(rows * j2) - self.weights_removed(rows * j1)
        return self.smallest(self.scores(weights[:, j1:j2], j1), count)


WRONG = [
    # Equal scores: the later weight goes first, as when a descending sort is read backwards.
    Wrong("ties to the higher index",
        with_step(smallest=lambda self, values, count: Right.smallest(
            self, values.ravel()[::-1], count)[::-1].reshape(values.shape)),
        "vector mask", "tie-to-higher-index", patterns=("unstructured", "n:m"),
        features=("ties",)),
    # Equal columns get scores that differ in the last bits, as from norms that are summed in parts.
    Wrong("equal columns differ in the last bits",
        with_step(norms=lambda self: Right.norms(self) * (1 + 2.0**-51 * (
            np.arange(self.shape[1]) % 2 == 0))),
        "vector mask", None, patterns=("n:m",), features=("tied-columns",)),
    # G is divided by an odd power of two, so that its roots round.
    Wrong("G in odd units", with_step(norms=lambda self: np.sqrt(2 * np.diag(self.G))),
        "vector mask", None, patterns=("unstructured", "n:m"), features=("tied-products",)),
    Wrong("mask of the original weights", ChosenOnce, "masks", "mask-of-original-weights",
        patterns=("unstructured",), features=("many-blocks",)),
    Wrong("n:m chosen once from the original weights", ChosenOnce, "masks", "nm-chosen-once",
        patterns=GROUPS, features=("many-blocks", "m-above-1")),
    Wrong("mask local to the block", BlockLocal, "masks", "block-local-mask",
        patterns=("unstructured",), features=("many-blocks",)),
    # The norms of the inputs are left out of (2).
    Wrong("mask by magnitude", with_step(scores=lambda self, weights, j1: np.abs(weights)),
        "masks", "mask-by-magnitude"),
    Wrong("norm not rooted", NormNotRooted, "masks", "norm-not-rooted", patterns=IN_BLOCKS),
    # Optimal Brain Surgeon's loss W² / ((H_JJ)⁻¹)_jj instead of (2), as a port of SparseGPT.
    Wrong("mask by the loss of Optimal Brain Surgeon",
        with_step(scores=lambda self, weights, j1: np.abs(weights) / np.linalg.norm(
            self.U[j1:, j1:], axis=0)[: weights.shape[1]]),
        "masks", "mask-by-obs", patterns=IN_BLOCKS),
    # The norms of (2) are read off H, which holds the damping, instead of G.
    Wrong("norms with damping", with_step(norms=lambda self: np.sqrt(np.diag(self.H))),
        "masks", "norms-with-damping", patterns=IN_BLOCKS),
    # The absolute value is left out of (2): the most negative weights go.
    Wrong("scores with sign",
        with_step(scores=lambda self, weights, j1: np.sign(weights) * Right.scores(
            self, weights, j1)),
        "masks", "score-with-sign", patterns=IN_BLOCKS),
    # The largest scores go: the order of the sort is the wrong one.
    Wrong("the largest go",
        with_step(smallest=lambda self, values, count: Right.smallest(self, -values, count)),
        "masks", "largest-go", patterns=("unstructured", "n:m", "structured")),
    # Columns are scored by all rows, although the outlier rows lose none of them.
    Wrong("columns scored over all rows",
        with_step(column_values=lambda self, rows: Right.column_values(self, np.ones_like(rows))),
        "masks", "structured-over-all-rows", patterns=("outlier-rows",),
        features=("structured-outliers", "loud-row")),
    # Columns are scored by the sum of S instead of S²: a mean as in structured Wanda.
    Wrong("columns scored by unsquared sums",
        with_step(column_values=lambda self, rows: self.scores(self.W, 0)[rows].sum(axis=0)),
        "masks", "structured-unsquared", patterns=("structured",), features=("spiky-rows",)),
]  # fmt: skip
