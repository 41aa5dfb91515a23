"""Bugs in the baselines, and one method that is handed in as another."""

import numpy as np

from reference.patterns import Unstructured
from tests.judge.wrong.arrays import Array, Mask
from tests.judge.wrong.bug import Wrong, with_step
from tests.judge.wrong.masks import NormNotRooted
from tests.judge.wrong.right import Right


class AtMostTheThreshold(Right):
    """Masks are `score <= threshold`, the threshold being the first score that stays."""

    def smallest(self, values: Array, count: int) -> Mask:
        of_a_block = values.ndim == 2  # n:m and whole columns take the k smallest
        return super().smallest(values, count + 1 if of_a_block else count)


class DeadColumnsBeforehand(Right):
    """SparseGPT with dead columns zeroed beforehand, and the budget spent on live ones."""

    def sparsegpt(self) -> tuple[Array, Mask]:
        weights, mask = super().sparsegpt()
        dead = np.diag(self.G) == 0
        return np.where(dead, 0.0, weights), mask | dead

    def losses_alone(self, weights: Array, J: slice) -> Array:
        return np.where(np.diag(self.G)[J] == 0, np.inf, super().losses_alone(weights, J))


class GroupsAtBlockStart(Right):
    """SparseGPT's n:m masks are chosen at the start of a block, not when the sweep gets there."""

    def reached(self, weights: Array, mask: Mask, j: int, block: tuple[int, int]) -> None:
        if j == block[0]:
            self.at_start = weights
        super().reached(self.at_start, mask, j, block)


class PerLayer(Right):
    """Wanda compares over the whole layer, like magnitude, instead of within each row."""

    def wanda(self) -> tuple[Array, Mask]:
        if not isinstance(self.pattern, Unstructured):
            return super().wanda()
        S = self.scores(self.W, 0)
        return self.zeroed(self.smallest(S, self.weights_removed(S.size)))


class PerRow(Right):
    """Magnitude compares within each row, like Wanda, instead of over the whole layer."""

    def magnitude(self) -> tuple[Array, Mask]:
        if not isinstance(self.pattern, Unstructured):
            return super().magnitude()
        return self.zeroed(self.of_each_row(np.abs(self.W), self.weights_removed(self.shape[1])))


class Rescaled(Right):
    """Kept weights are scaled so that every row has the norm that it had."""

    def zeroed(self, mask: Mask) -> tuple[Array, Mask]:
        weights, mask = super().zeroed(mask)
        before, after = (np.linalg.norm(x, axis=1, keepdims=True) for x in (self.W, weights))
        return weights * before / np.where(after > 0, after, 1.0), mask


class ThroughHalf(Right):
    """Kept weights pass through float16, because masks were made on a half-precision copy."""

    def zeroed(self, mask: Mask) -> tuple[Array, Mask]:
        weights, mask = super().zeroed(mask)
        return weights.astype(np.float16).astype(np.float64), mask


def always(method: str) -> type[Right]:
    """The right implementation with one method, whatever was asked for."""
    return with_step(run=lambda self, _: Right.run(self, method))


LAYER, PLAIN = ("unstructured",), ("unstructured", "n:m", "structured")

WRONG = [
    Wrong("SparseGPT: one weight too many", AtMostTheThreshold, "counts", "count-off-by-one",
        method="sparsegpt", patterns=LAYER),
    Wrong("magnitude: one weight too many", AtMostTheThreshold, "counts", "count-off-by-one",
        method="magnitude", patterns=LAYER),
    Wrong("SparseGPT: dead columns outside the budget", DeadColumnsBeforehand, "counts",
        "dead-columns-extra", method="sparsegpt", patterns=PLAIN, features=("dead-columns",)),
    Wrong("SparseGPT: n:m chosen at the block's start", GroupsAtBlockStart, "masks",
        "chosen-at-block-start", method="sparsegpt", patterns=("n:m",),
        features=("m-above-1", "wide-block")),
    # SparseGPT's score is W² / U_jj: the pivot of the factor is taken for that of R.
    Wrong("SparseGPT: pivot not squared",
        with_step(losses_alone=lambda self, weights, J: weights[:, J] ** 2 / np.diag(self.U)[J]),
        "masks", "pivot-not-squared", method="sparsegpt", patterns=("unstructured", "n:m")),
    Wrong("SparseGPT: multiplied by the pivot",
        with_step(losses_alone=lambda self, weights, J:
            weights[:, J] ** 2 * np.diag(self.U)[J] ** 2),
        "masks", "pivot-multiplied", method="sparsegpt",
        patterns=("unstructured", "n:m", "structured")),
    Wrong("Wanda: per layer", PerLayer, "counts", "compared-over-the-layer", method="wanda",
        patterns=LAYER),
    Wrong("Wanda: norm not rooted", NormNotRooted, "masks", "norm-not-rooted", method="wanda",
        patterns=("unstructured", "n:m")),
    Wrong("Wanda: kept weights rescaled", Rescaled, "kept", None, method="wanda", patterns=PLAIN),
    Wrong("magnitude: per row", PerRow, "masks", "compared-by-rows", method="magnitude",
        patterns=LAYER),
    Wrong("magnitude: kept weights through float16", ThroughHalf, "kept", None, method="magnitude",
        patterns=PLAIN),
    Wrong("magnitude called Thanos", always("magnitude"), "updates", "another-method",
        patterns=LAYER),
    Wrong("Wanda called Thanos", always("wanda"), "updates", "another-method", patterns=LAYER),
    Wrong("SparseGPT called Thanos", always("sparsegpt"), "updates", "another-method",
        patterns=PLAIN),
    Wrong("Thanos called SparseGPT", always("thanos"), "updates", "another-method",
        method="sparsegpt", patterns=PLAIN),
    Wrong("Wanda called magnitude", always("wanda"), "masks", "another-method", method="magnitude",
        patterns=PLAIN),
    Wrong("magnitude called Wanda", always("magnitude"), "masks", "another-method", method="wanda",
        patterns=PLAIN),
]  # fmt: skip
