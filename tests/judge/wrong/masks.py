"""Bugs in which weights go, while their number is right."""

import numpy as np

from reference.patterns import SemiStructured, Unstructured
from tests.judge.wrong.arrays import Array, Mask
from tests.judge.wrong.bug import IN_BLOCKS, bug, with_step
from tests.judge.wrong.right import Right

GROUPS = ("n:m", "outlier-rows")


class TiesToHigher(Right):
    """Equal scores: the later weight goes first, as when a descending sort is read backwards."""

    def smallest(self, values: Array, count: int) -> Mask:
        return super().smallest(values.ravel()[::-1], count)[::-1].reshape(values.shape)


class OriginalWeights(Right):
    """The mask is chosen once, from the weights as they were before any update, as in Wanda."""

    def choose(self, weights: Array, mask: Mask, j1: int, j2: int) -> Mask:
        stale = isinstance(self.pattern, Unstructured)
        return super().choose(self.W if stale else weights, mask, j1, j2)


class GroupsChosenOnce(Right):
    """n:m masks are chosen once, before any update: groups alone look independent of each other."""

    def choose(self, weights: Array, mask: Mask, j1: int, j2: int) -> Mask:
        stale = isinstance(self.pattern, SemiStructured)
        return super().choose(self.W if stale else weights, mask, j1, j2)


class BlockLocal(Right):
    """Every block gives its own share of the count, as in SparseGPT: no global residual mask."""

    def choose(self, weights: Array, mask: Mask, j1: int, j2: int) -> Mask:
        if not isinstance(self.pattern, Unstructured):
            return super().choose(weights, mask, j1, j2)
        rows = self.shape[0]
        count = self.weights_removed(rows * j2) - self.weights_removed(rows * j1)
        return self.smallest(self.scores(weights[:, j1:j2], j1), count)


class NormNotRooted(Right):
    """(2) with G_jj instead of its root: the accumulated squares are taken for norms."""

    def scores(self, weights: Array, j1: int) -> Array:
        return np.abs(weights) * np.diag(self.G)[j1 : j1 + weights.shape[1]]


class ByBrainSurgeon(Right):
    """Optimal Brain Surgeon's loss W² / ((H_JJ)⁻¹)_jj instead of (2), as a port of SparseGPT."""

    def scores(self, weights: Array, j1: int) -> Array:
        trailing = self.U[j1:, j1:]
        norms = np.linalg.norm(trailing, axis=0)[: weights.shape[1]]
        return np.asarray(np.abs(weights) / norms)


class NormsOfDamped(Right):
    """The norms of (2) are read off H, which holds the damping, instead of G."""

    def scores(self, weights: Array, j1: int) -> Array:
        return np.abs(weights) * np.sqrt(np.diag(self.H))[j1 : j1 + weights.shape[1]]


class Signed(Right):
    """The absolute value is left out of (2): the most negative weights go."""

    def scores(self, weights: Array, j1: int) -> Array:
        return np.sign(weights) * super().scores(weights, j1)


WRONG = [
    bug("ties to the higher index", TiesToHigher, "vector mask", "tie-to-higher-index",
        patterns=("unstructured", "n:m"), features=("ties",)),
    bug("mask of the original weights", OriginalWeights, "masks", "mask-of-original-weights",
        patterns=("unstructured",), features=("many-blocks",)),
    bug("n:m chosen once from the original weights", GroupsChosenOnce, "masks", "nm-chosen-once",
        patterns=GROUPS, features=("many-blocks", "m-above-1")),
    bug("mask local to the block", BlockLocal, "masks", "block-local-mask",
        patterns=("unstructured",), features=("many-blocks",)),
    # The norms of the inputs are left out of (2).
    bug("mask by magnitude", with_step(scores=lambda self, weights, j1: np.abs(weights)),
        "masks", "mask-by-magnitude"),
    bug("norm not rooted", NormNotRooted, "masks", "norm-not-rooted", patterns=IN_BLOCKS),
    bug("mask by the loss of Optimal Brain Surgeon", ByBrainSurgeon, "masks", "mask-by-obs",
        patterns=IN_BLOCKS),
    bug("norms with damping", NormsOfDamped, "masks", "norms-with-damping", patterns=IN_BLOCKS),
    bug("scores with sign", Signed, "masks", "score-with-sign", patterns=IN_BLOCKS),
    # The largest scores go: the order of the sort is the wrong one.
    bug("the largest go",
        with_step(smallest=lambda self, values, count: Right.smallest(self, -values, count)),
        "masks", None, patterns=("unstructured", "n:m", "structured")),
    # Columns are scored by all rows, although the outlier rows lose none of them.
    bug("columns scored over all rows",
        with_step(column_values=lambda self, rows: Right.column_values(self, np.ones_like(rows))),
        "masks", "structured-over-all-rows", patterns=("outlier-rows",),
        features=("structured-outliers", "loud-row")),
    # Columns are scored by the sum of S instead of S²: a mean as in structured Wanda.
    bug("columns scored by unsquared sums",
        with_step(column_values=lambda self, rows: self.scores(self.W, 0)[rows].sum(axis=0)),
        "masks", "structured-unsquared", patterns=("structured",), features=("spiky-rows",)),
]  # fmt: skip
