"""Bugs in which rows are outlier rows, that need layers of their own to show."""

import numpy as np

from tests.judge.wrong.arrays import Mask
from tests.judge.wrong.bug import Wrong, with_step
from tests.judge.wrong.right import Right


def higher_spared(self: Right) -> Mask:
    """Outlier rows with ties to the higher index."""
    order = np.argsort(self.row_values(), kind="stable")[::-1]
    spared = np.zeros(self.shape[0], dtype=bool)
    spared[order[: self.rows_spared()]] = True
    return spared


ROWS = ("outlier-rows",)

WRONG = [
    # h is read off the matrix at hand, which holds the damping.
    Wrong("rows spared by W H Wᵀ",
        with_step(row_values=lambda self: np.einsum("ij,jk,ik->i", self.W, self.H, self.W)),
        "outliers", "outlier-rows-with-damping", patterns=ROWS, features=("quiet-heavy-row",)),
    # A descending sort is read backwards.
    Wrong("ties of rows to the higher index", with_step(spared=higher_spared),
        "vector mask", "outlier-rows-ties", patterns=ROWS, features=("tied-rows",)),
]  # fmt: skip
