"""One choice that a mask consists of: which values, how many of them. Spec sections 3 and 6."""

from dataclasses import dataclass

import numpy as np

from verification.certificate.case import Array, Mask


@dataclass(frozen=True)
class Selection:
    """Choose the `count` smallest of every group of values.

    block    first column, and the one after the last
    rows     the rows chosen among, (rows,)
    values   S, (rows, width), or one value a column, (1, width)
    margins  δ, of the same shape
    group    neighbouring values that compete, in row-major order
    decided  columns of `values` that the choice decides; others, of a Contest, only compete
    """

    block: tuple[int, int]
    rows: np.ndarray
    values: Array
    margins: Array
    group: int
    count: int
    decided: int

    @property
    def whole_columns(self) -> bool:
        """Whether one value stands for a whole column."""
        return len(self.values) == 1 and len(self.rows) != 1

    @property
    def columns(self) -> slice:
        """The columns that the choice decides."""
        return slice(self.block[0], self.block[0] + self.decided)

    @property
    def size(self) -> int:
        """How many weights, or columns, the choice decides."""
        return len(self.values) * self.decided

    def picks(self, mask: Mask) -> Mask:
        """The part of a mask that this choice decided, in the shape of `values`, (., decided)."""
        part = mask[self.rows, self.columns]
        return np.all(part, axis=0, keepdims=True) if self.whole_columns else part

    def fill(self, mask: Mask, picks: Mask) -> None:
        """Make `picks` the part of the mask that this choice decides."""
        shape = len(self.rows), self.decided
        mask[self.rows, self.columns] = np.broadcast_to(picks, shape)

    def miscounted(self, mask: Mask, picks: Mask) -> int:
        """T1 for this choice: how many of its `picks` are missing or too many."""
        if self.whole_columns:
            part = mask[self.rows, self.columns]
            return abs(int(picks.sum()) - self.count) + int((part != picks).sum())
        counts = picks.reshape(-1, min(self.group, picks.size)).sum(axis=1)
        return int(np.abs(counts - self.count).sum())

    def place(self, row: int, column: int) -> str:
        """Where a value is, for people."""
        place = "column" if self.whole_columns else f"row {self.rows[row]}, column"
        return f"{place} {self.block[0] + column}"
