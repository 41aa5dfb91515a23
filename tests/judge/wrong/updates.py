"""Bugs in what the kept weights do, while the right number of weights goes."""

from collections.abc import Iterator

import numpy as np

from reference.patterns import SemiStructured
from tests.judge.wrong.arrays import Array, Indices, Mask
from tests.judge.wrong.bug import ALL, IN_BLOCKS, bug, with_step
from tests.judge.wrong.right import Right

PUBLISHED_GROUP = 128


class WrongTriangle(Right):
    """R is U Uᵀ instead of Uᵀ U: a library's lower triangle is taken for the upper one."""

    def inverse_rows(self, j1: int, j2: int) -> Array:
        return (self.U[j1:, j1:] @ self.U[j1:, j1:].T)[: j2 - j1]


class TransposeForgotten(Right):
    """R_kJ = U_kkᵀ U_kJ without the transpose for the columns behind the block."""

    def inverse_rows(self, j1: int, j2: int) -> Array:
        R = super().inverse_rows(j1, j2)
        R[:, j2 - j1 :] = self.U[j1:j2, j1:j2] @ self.U[j1:j2, j2:]
        return R


class HalfStep(Right):
    """The step is half as long: the factor of the gradient 2 D H is left in one place."""

    def multipliers(self, R_qq: Array, removed: Array) -> Array:
        return 0.5 * super().multipliers(R_qq, removed)


class MultipliersTooLarge(Right):
    """All multipliers are 0.1 % too large, which no test with `allclose` at 1e-2 would see."""

    def multipliers(self, R_qq: Array, removed: Array) -> Array:
        return (1 + 1e-3) * super().multipliers(R_qq, removed)


class Sequential(Right):
    """The columns of a block go one after another, the earlier ones frozen: SparseGPT's update."""

    def update(self, weights: Array, mask: Mask, j1: int, j2: int) -> Array:
        for j in range(j1, j2):
            weights = super().update(weights, mask, j, j + 1)
        return weights


class OnlyZeroed(Right):
    """Weights are set to zero and nothing makes up for them."""

    def made_up(self, row: Array, q: Indices, R: Array) -> Array:
        zeroed = row.copy()
        zeroed[q] = 0.0
        return zeroed


class AllColumnsMove(Right):
    """(6) with J = all columns in every block: columns of earlier blocks move once more."""

    def update(self, weights: Array, mask: Mask, j1: int, j2: int) -> Array:
        now = np.zeros_like(mask)
        now[:, j1:j2] = mask[:, j1:j2]
        updated = super().update(weights, now, 0, self.shape[1])
        updated[mask] = 0.0
        return updated


class NothingFrozen(Right):
    """Every block solves anew for all weights that are kept so far, those before it included."""

    def update(self, weights: Array, mask: Mask, j1: int, j2: int) -> Array:
        return super().update(self.W, mask, 0, self.shape[1])


class DoubleBlocks(Right):
    """Blocks are twice as wide as asked for."""

    def blocks(self) -> Iterator[tuple[int, int]]:
        self.block_size *= 2
        yield from super().blocks()


class HalfBlocks(Right):
    """Blocks are half as wide as asked for."""

    def blocks(self) -> Iterator[tuple[int, int]]:
        m = self.pattern.m if isinstance(self.pattern, SemiStructured) else 1
        self.block_size = max(self.block_size // 2 // m, 1) * m
        yield from super().blocks()


class OneBlock(Right):
    """The block size is ignored, and the whole layer is one block."""

    def blocks(self) -> Iterator[tuple[int, int]]:
        yield 0, self.shape[1]


class StructuredInBlocks(Right):
    """The removed columns go block by block, although structured pruning knows no blocks."""

    def structured(self) -> tuple[Array, Mask]:
        weights, (_, mask) = self.W, super().structured()
        for j1, j2 in self.blocks():
            weights = self.update(weights, mask, j1, j2)
        return weights, mask


class DefaultForOne(Right):
    """`block_size > 1 or the default`: a block size of 1 is taken for none at all."""

    def blocks(self) -> Iterator[tuple[int, int]]:
        self.block_size = self.block_size if self.block_size > 1 else PUBLISHED_GROUP
        yield from super().blocks()


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


class ZerosNotExact(Right):
    """The removed weights are what is left of them after the subtraction, nearly 0."""

    def made_up(self, row: Array, q: Indices, R: Array) -> Array:
        return np.asarray(row - self.multipliers(R[np.ix_(q, q)], row[q]) @ R[q])


class NegativeZeros(Right):
    """The weight is multiplied by the complement of the mask, which keeps the sign of a zero."""

    def handed_back(self, weights: Array, mask: Mask) -> tuple[Array, Mask]:
        signed = np.where(mask, self.W, weights) * ~mask
        return super().handed_back(signed, mask)


MANY = ("many-blocks",)

WRONG = [
    # R is cut out of the inverse of all of H, which still lets the frozen columns move.
    bug("stale inverse",
        with_step(inverse_rows=lambda self, j1, j2: (self.U.T @ self.U)[j1:j2, j1:]),
        "updates", "stale-inverse", patterns=IN_BLOCKS, features=MANY),
    bug("wrong triangle", WrongTriangle, "updates", "wrong-triangle"),
    bug("transposed update", TransposeForgotten, "updates", "transposed-update",
        patterns=IN_BLOCKS, features=MANY),
    bug("half the step", HalfStep, "updates", "half-step"),
    bug("multipliers off by 1e-3", MultipliersTooLarge, "updates", "half-step"),
    bug("sequential instead of joint", Sequential, "updates", "sequential-update"),
    bug("only zeroed", OnlyZeroed, "updates", "only-zeroed"),
    bug("frozen columns updated", AllColumnsMove, "updates", "frozen-columns-moved",
        patterns=IN_BLOCKS, features=MANY),
    bug("columns before the block not frozen", NothingFrozen, "updates", "frozen-columns-moved",
        patterns=IN_BLOCKS, features=MANY),
    bug("blocks twice as wide", DoubleBlocks, "updates", "wrong-block-size", patterns=IN_BLOCKS,
        features=MANY),
    bug("blocks half as wide", HalfBlocks, "updates", "wrong-block-size", patterns=IN_BLOCKS),
    bug("one block", OneBlock, "updates", "wrong-block-size", patterns=IN_BLOCKS, features=MANY),
    bug("structured in blocks", StructuredInBlocks, "updates", "wrong-block-size",
        patterns=("structured", "outlier-rows"), features=("structured-outliers", *MANY)),
    bug("B = 1 taken for the default", DefaultForOne, "updates", "wrong-block-size",
        patterns=("unstructured",), features=("one-column-blocks",)),
    bug("B = 1 as in the published code", PublishedOne, "updates", "only-zeroed",
        patterns=("unstructured",), features=("one-column-blocks",)),
    bug("zeros not exact", ZerosNotExact, "zeros", "zeros-not-exact", patterns=ALL),
    bug("negative zeros", NegativeZeros, "zeros", "zeros-not-exact", patterns=ALL),
]  # fmt: skip
