"""Bugs in what a block is, and in what lies behind it."""

from collections.abc import Iterator

import numpy as np

from tests.judge.wrong.arrays import Array, Mask
from tests.judge.wrong.bug import IN_BLOCKS, Wrong, with_step
from tests.judge.wrong.right import Right


class Inside(Right):
    """The columns behind the block do not move, as if a later product added them."""

    def inverse_rows(self, j1: int, j2: int) -> Array:
        R = super().inverse_rows(j1, j2).copy()
        R[:, j2 - j1 :] = 0.0
        return R


class Alone(Right):
    """Every block is a small problem of its own, with its own part of H."""

    def inverse_rows(self, j1: int, j2: int) -> Array:
        R = np.zeros((j2 - j1, len(self.H) - j1))
        R[:, : j2 - j1] = np.linalg.inv(self.H[j1:j2, j1:j2])
        return R


def damped_anew(behind: bool) -> type[Right]:
    """λ is taken from the columns of the block, or from all that remain."""

    def inverse_rows(self: Right, j1: int, j2: int) -> Array:
        diagonal = np.diag(self.G)[j1 : None if behind else j2]
        remaining = self.G[j1:, j1:]
        H = remaining + self.added(diagonal) * np.eye(len(remaining))
        return np.asarray(np.linalg.inv(H)[: j2 - j1])

    return with_step(inverse_rows=inverse_rows)


class LastShifted(Right):
    """The last block has the width B, as all have: it begins inside of the one before it."""

    def blocks(self) -> Iterator[tuple[int, int]]:
        for _, j2 in super().blocks():
            yield max(j2 - self.block_size, 0), j2

    def choose(self, weights: Array, mask: Mask, j1: int, j2: int) -> Mask:
        before = mask.copy()
        before[:, j1:] = False
        return super().choose(weights, before, j1, j2)


class RowLeftOut(Right):
    """The loop over rows ends one too early; the mask zeroes the row all the same."""

    row = -1

    def update(self, weights: Array, mask: Mask, j1: int, j2: int) -> Array:
        updated = super().update(weights, mask, j1, j2)
        updated[self.row, j1:] = weights[self.row, j1:]
        updated[:, j1:j2][mask[:, j1:j2]] = 0.0
        return updated


class FirstRowLeftOut(RowLeftOut):
    """The loop over rows begins at 1."""

    row = 0


class LastBatchLeftOut(RowLeftOut):
    """Rows are solved in batches of four, and what is left over is not."""

    def update(self, weights: Array, mask: Mask, j1: int, j2: int) -> Array:
        updated = super().update(weights, mask, j1, j2)
        left = self.shape[0] // 4 * 4 - 1
        updated[left:, j1:] = weights[left:, j1:]
        updated[:, j1:j2][mask[:, j1:j2]] = 0.0
        return updated


MANY = ("many-blocks",)
ROW, WITHIN = "rows-not-solved", "update-within-block"
FULL = ("unstructured", "n:m", "structured")

WRONG = [
    Wrong("columns behind the block stay", Inside, "updates", WITHIN, patterns=IN_BLOCKS,
        features=MANY),
    Wrong("blocks alone", Alone, "updates", WITHIN, patterns=IN_BLOCKS, features=MANY),
    Wrong("damping of the remaining columns", damped_anew(True), "updates", "damping-per-block",
        patterns=IN_BLOCKS, features=MANY),
    Wrong("damping of the block", damped_anew(False), "updates", "damping-per-block",
        patterns=IN_BLOCKS, features=MANY),
    Wrong("last block shifted", LastShifted, "updates", "last-block-shifted",
        patterns=IN_BLOCKS, features=("ragged-last-block", *MANY)),
    Wrong("last row left out", RowLeftOut, "updates", ROW, patterns=FULL),
    Wrong("first row left out", FirstRowLeftOut, "updates", ROW, patterns=FULL),
    Wrong("last batch of rows left out", LastBatchLeftOut, "updates", ROW, patterns=FULL),
]  # fmt: skip
