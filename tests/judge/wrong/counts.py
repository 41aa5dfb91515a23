"""Bugs in how many weights go."""

from collections.abc import Iterator
from math import ceil, floor

import numpy as np

from reference.patterns import SemiStructured, Structured, Unstructured
from tests.judge.wrong.arrays import Array, Mask
from tests.judge.wrong.bug import IN_BLOCKS, Wrong, with_step
from tests.judge.wrong.right import Right

TOTALS = ("unstructured", "structured")
GROUPS = ("n:m", "outlier-rows")
LONG = ("long-decimals",)


def off_by(more: int) -> type[Right]:
    """The right implementation with counts that are off by a number."""
    return with_step(
        weights_removed=lambda self, weights: Right.weights_removed(self, weights) + more,
        columns_removed=lambda self, columns: Right.columns_removed(self, columns) + more,
    )


class KeepsN(Right):
    """n of m are kept, as NVIDIA counts, instead of removed, as the paper does."""

    def of_each_group(self, values: Array) -> Mask:
        assert isinstance(self.pattern, SemiStructured)
        n, m = self.pattern.n, self.pattern.m
        return self.of_each_row(values.reshape(-1, m), m - n).reshape(values.shape)


class GroupsMisaligned(Right):
    """Groups begin half a group late, and the last one takes its rest from the block's start."""

    def of_each_group(self, values: Array) -> Mask:
        assert isinstance(self.pattern, SemiStructured)
        shift = self.pattern.m // 2
        return np.roll(super().of_each_group(np.roll(values, -shift, axis=1)), shift, axis=1)


class DeadColumnsExtra(Right):
    """Dead columns are removed beforehand and outside the budget, as in the published code."""

    def thanos(self) -> tuple[Array, Mask]:
        weights, mask = super().thanos()
        # H decouples a dead column, so that removing it too moves nothing else.
        return np.where(self.dead(), 0.0, weights), mask | self.dead()

    def choose(self, weights: Array, mask: Mask, j1: int, j2: int) -> Mask:
        return super().choose(weights, mask, j1, j2) & ~self.dead()[j1:j2]

    def scores(self, weights: Array, j1: int) -> Array:
        """Infinite where a column is dead, so that the budget is spent on live ones."""
        dead = self.dead()[j1 : j1 + weights.shape[1]]
        return np.where(dead, np.inf, super().scores(weights, j1))

    def dead(self) -> Mask:
        return np.asarray(np.diag(self.G) == 0)


class Binary(Right):
    """Counts in binary floating point, as most programs take them; `fudge` mends short decimals.

    what  "weights", "columns" or "rows": whose count it is
    """

    what = ("weights", "columns", "rows")
    fudge = 0.0

    def weights_removed(self, weights: int) -> int:
        if "weights" not in self.what:
            return super().weights_removed(weights)
        assert isinstance(self.pattern, Unstructured)
        return floor(float(self.pattern.sparsity) * weights + self.fudge)

    def columns_removed(self, columns: int) -> int:
        if "columns" not in self.what:
            return super().columns_removed(columns)
        assert isinstance(self.pattern, Structured)
        p, alpha = float(self.pattern.sparsity), float(self.pattern.outlier_rows)
        return ceil(p * columns / (1 - alpha) - self.fudge)

    def rows_spared(self) -> int:
        if "rows" not in self.what or isinstance(self.pattern, Unstructured):
            return super().rows_spared()
        return ceil(float(self.pattern.outlier_rows) * self.shape[0] - self.fudge)


def binary(what: str, fudge: float = 0.0) -> type[Right]:
    """The right implementation with one kind of count in binary floating point."""
    return type("Changed", (Binary,), {"what": (what,), "fudge": fudge})


class SharesOfBlocks(Right):
    """SparseGPT rounds the count of every block on its own: their sum is another one."""

    def weights_removed(self, weights: int) -> int:
        rows = self.shape[0]
        blocks, rest = divmod(weights, rows * self.block_size)
        each = super().weights_removed(rows * self.block_size)
        return blocks * each + super().weights_removed(rest)

    def columns_removed(self, columns: int) -> int:
        blocks, rest = divmod(columns, self.block_size)
        return blocks * super().columns_removed(self.block_size) + super().columns_removed(rest)


class WholeBlocksOnly(Right):
    """The loop runs over `b // B` blocks: a narrower last one, or one with B > b, is left out."""

    def blocks(self) -> Iterator[tuple[int, int]]:
        for k in range(self.shape[1] // self.block_size):
            yield k * self.block_size, (k + 1) * self.block_size


WRONG = [
    # A threshold is read from the sorted scores at index k, and `<=` compares with it.
    Wrong("count one too large", off_by(1), "counts", "count-off-by-one", patterns=TOTALS),
    # A threshold is read from the sorted scores at index k - 1, and `<` compares with it.
    Wrong("count one too small", off_by(-1), "counts", "count-off-by-one", patterns=TOTALS),
    # The count is the ceiling of p c b: "at least this sparse" instead of "at most".
    Wrong("count rounded up",
        with_step(weights_removed=lambda self, weights: ceil(self.pattern.sparsity * weights)),
        "counts", "count-rounded-up", patterns=("unstructured",), features=("uneven-count",)),
    # The count of columns is `int(...)` like that of weights, where the paper has a ceiling.
    Wrong("count of columns rounded down",
        with_step(columns_removed=lambda self, columns: floor(
            self.pattern.sparsity * columns / (1 - self.pattern.outlier_rows))),
        "counts", "count-off-by-one", patterns=("structured",), features=("uneven-count",)),
    # `int(p * c * b)` in binary floating point, as in the published code: 0.29 * 100 is 28.
    Wrong("count in binary floating point",
        with_step(weights_removed=lambda self, weights: int(
            float(self.pattern.sparsity) * weights)),
        "counts", "count-in-binary", patterns=("unstructured",), features=("binary-count",)),
    # Typed decimals are read as doubles, so that a product can pass a whole number, either way.
    Wrong("count of columns in binary floating point", binary("columns"),
        "counts", "count-in-binary",
        patterns=("structured",), features=LONG),
    Wrong("1 - alpha in binary floating point", binary("columns"), "counts", "count-in-binary",
        patterns=("outlier-rows",), features=("structured-outliers", *LONG)),
    Wrong("outlier rows counted in binary floating point", binary("rows"),
        "outliers", "count-in-binary",
        patterns=("outlier-rows",), features=LONG),
    # A small number is added before rounding down, which mends 0.29 · 100 and spoils other counts.
    Wrong("count mended by a small number", binary("weights", 1e-9), "counts", "count-in-binary",
        patterns=("unstructured",), features=LONG),
    Wrong("count of columns mended by a small number", binary("columns", 1e-9),
        "counts", "count-in-binary",
        patterns=("structured",), features=LONG),
    Wrong("magnitude: counts in binary floating point", Binary, "counts", "count-in-binary",
        method="magnitude", patterns=TOTALS, features=LONG),
    Wrong("Wanda: counts in binary floating point", Binary, "counts", "count-in-binary",
        method="wanda", patterns=TOTALS, features=LONG),
    Wrong("SparseGPT: counts in binary floating point", Binary, "counts", "count-in-binary",
        method="sparsegpt", patterns=TOTALS, features=LONG),
    Wrong("SparseGPT: shares of blocks", SharesOfBlocks, "counts", None,
        method="sparsegpt", patterns=("unstructured",), features=("uneven-count", "many-blocks")),
    # The residual count of (3) is never reduced by what earlier blocks have removed.
    Wrong("full count in every block",
        with_step(choose=lambda self, weights, mask, j1, j2: Right.choose(
            self, weights, np.zeros_like(mask), j1, j2)),
        "counts", None, patterns=("unstructured",), features=("many-blocks",)),
    Wrong("n kept", KeepsN, "counts", "n-kept", patterns=GROUPS, features=("n-not-half",)),
    Wrong("groups across borders", GroupsMisaligned, "counts", "group-misaligned", patterns=GROUPS,
        features=("m-above-1",)),
    # ⌈pb⌉ columns, without the factor 1/(1 - α) that makes up for the outlier rows.
    Wrong("columns counted without outlier rows",
        with_step(columns_removed=lambda self, columns: ceil(self.pattern.sparsity * columns)),
        "counts", "structured-count", patterns=("outlier-rows",),
        features=("structured-outliers",)),
    Wrong("dead columns outside the budget", DeadColumnsExtra, "counts", "dead-columns-extra",
        patterns=("unstructured", "n:m", "structured"), features=("dead-columns",)),
    Wrong("whole blocks only", WholeBlocksOnly, "counts", "last-block-left-out", patterns=IN_BLOCKS,
        features=("wide-block",)),
]  # fmt: skip
