"""Bugs in what the kept weights do, while the right number of weights goes."""

from collections.abc import Iterator

import numpy as np

from reference.patterns import SemiStructured
from tests.judge.wrong.arrays import Array, Mask
from tests.judge.wrong.bug import IN_BLOCKS, Wrong, with_arguments, with_step
from tests.judge.wrong.right import Right

PUBLISHED_GROUP = 128


def multipliers_times(factor: float) -> type[Right]:
    """The right implementation with longer or shorter steps."""
    return with_step(
        multipliers=lambda self, R_qq, removed: factor * Right.multipliers(self, R_qq, removed)
    )


class TransposeForgotten(Right):
    """R_kJ = U_kkᵀ U_kJ without the transpose for the columns behind the block."""

    def inverse_rows(self, j1: int, j2: int) -> Array:
        R = super().inverse_rows(j1, j2)
        R[:, j2 - j1 :] = self.U[j1:j2, j1:j2] @ self.U[j1:j2, j2:]
        return R


class Sequential(Right):
    """The columns of a block go one after another, the earlier ones frozen: SparseGPT's update."""

    def update(self, weights: Array, mask: Mask, j1: int, j2: int) -> Array:
        for j in range(j1, j2):
            weights = super().update(weights, mask, j, j + 1)
        return weights


class AllColumnsMove(Right):
    """(6) with J = all columns in every block: columns of earlier blocks move once more."""

    def update(self, weights: Array, mask: Mask, j1: int, j2: int) -> Array:
        now = np.zeros_like(mask)
        now[:, j1:j2] = mask[:, j1:j2]
        updated = super().update(weights, now, 0, self.shape[1])
        updated[mask] = 0.0
        return updated


def half_of_block_size(self: Right) -> int:
    m = self.pattern.m if isinstance(self.pattern, SemiStructured) else 1
    return max(self.block_size // 2 // m, 1) * m


class StructuredInBlocks(Right):
    """The removed columns go block by block, although structured pruning knows no blocks."""

    def structured(self) -> tuple[Array, Mask]:
        weights, (_, mask) = self.W, super().structured()
        for j1, j2 in self.blocks():
            weights = self.update(weights, mask, j1, j2)
        return weights, mask


class PublishedOne(Right):
    """B = 1 as in the published code: groups of 128 columns, nothing made up inside a group."""

    only_behind = False

    def blocks(self) -> Iterator[tuple[int, int]]:
        self.only_behind = self.block_size == 1
        self.block_size = PUBLISHED_GROUP if self.only_behind else self.block_size
        yield from super().blocks()

    def update(self, weights: Array, mask: Mask, j1: int, j2: int) -> Array:
        updated = super().update(weights, mask, j1, j2)
        if self.only_behind:
            updated[:, j1:j2] = np.where(mask[:, j1:j2], 0.0, weights[:, j1:j2])
        return updated


MANY = ("many-blocks",)

WRONG = [
    # R is cut out of the inverse of all of H, which still lets the frozen columns move.
    Wrong("stale inverse",
        with_step(inverse_rows=lambda self, j1, j2: (self.U.T @ self.U)[j1:j2, j1:]),
        "updates", "stale-inverse", patterns=IN_BLOCKS, features=MANY),
    # R is U Uᵀ instead of Uᵀ U: a library's lower triangle is taken for the upper one.
    Wrong("wrong triangle",
        with_step(inverse_rows=lambda self, j1, j2: (
            self.U[j1:, j1:] @ self.U[j1:, j1:].T)[: j2 - j1]),
        "updates", "wrong-triangle"),
    Wrong("transposed update", TransposeForgotten, "updates", "transposed-update",
        patterns=IN_BLOCKS, features=MANY),
    # The factor of the gradient 2 D H is left in one place.
    Wrong("half the step", multipliers_times(0.5), "updates", "half-step"),
    # A test with `allclose` at 1e-2 would not see it.
    Wrong("multipliers off by 1e-3", multipliers_times(1 + 1e-3), "updates", "half-step"),
    Wrong("sequential instead of joint", Sequential, "updates", "sequential-update"),
    # Weights are set to zero and nothing makes up for them.
    Wrong("only zeroed", multipliers_times(0.0), "updates", "only-zeroed"),
    Wrong("frozen columns updated", AllColumnsMove, "updates", "frozen-columns-moved",
        patterns=IN_BLOCKS, features=MANY),
    # Every block solves anew for all weights that are kept so far, those before it included.
    Wrong("columns before the block not frozen",
        with_step(update=lambda self, weights, mask, j1, j2: Right.update(
            self, self.W, mask, 0, self.shape[1])),
        "updates", "frozen-columns-moved", patterns=IN_BLOCKS, features=MANY),
    Wrong("blocks twice as wide", with_arguments(block_size=lambda self: 2 * self.block_size),
        "updates", "wrong-block-size", patterns=IN_BLOCKS, features=MANY),
    Wrong("blocks half as wide", with_arguments(block_size=half_of_block_size),
        "updates", "wrong-block-size", patterns=IN_BLOCKS),
    # The block size is ignored.
    Wrong("one block", with_arguments(block_size=lambda self: self.given_weight.shape[1]),
        "updates", "wrong-block-size", patterns=IN_BLOCKS, features=MANY),
    Wrong("structured in blocks", StructuredInBlocks, "updates", "wrong-block-size",
        patterns=("structured", "outlier-rows"), features=("structured-outliers", *MANY)),
    # `block_size > 1 or the default`: a block size of 1 is taken for none at all.
    Wrong("B = 1 taken for the default",
        with_arguments(block_size=lambda self: (
            self.block_size if self.block_size > 1 else PUBLISHED_GROUP)),
        "updates", "wrong-block-size", patterns=("unstructured",), features=("one-column-blocks",)),
    Wrong("B = 1 as in the published code", PublishedOne, "updates", "only-zeroed",
        patterns=("unstructured",), features=("one-column-blocks",)),
    # The removed weights are what is left of them after the subtraction, nearly 0.
    Wrong("zeros not exact",
        with_step(made_up=lambda self, row, q, R: (
            row - self.multipliers(R[np.ix_(q, q)], row[q]) @ R[q])),
        "zeros", "zeros-not-exact"),
    # The weight is multiplied by the complement of the mask, which keeps the sign of a zero.
    Wrong("negative zeros",
        with_step(handed_back=lambda self, weights, mask: Right.handed_back(
            self, np.where(mask, self.W, weights) * ~mask, mask)),
        "zeros", "zeros-not-exact"),
]  # fmt: skip
