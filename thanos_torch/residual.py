"""The residual mask (3): which weights of a block are among the r smallest of all that are left.

The scores of all columns from the block to the end are asked for one number, the r-th smallest.
From block to block it moves little. So on a CPU the scores are made some rows at a time, in a
buffer that stays in the cache, and counted below a bracket around the last threshold; only those
inside are kept and searched. Every step is exact: if the bracket misses, all scores are looked at.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from reference.patterns import column_blocks
from thanos_torch.selection import kth_smallest, smallest, smallest_on_device, with_first_ties


class Scores(Protocol):
    """S of some rows and of the columns J, or the first `width` of them, in new memory."""

    def __call__(self, rows: slice, width: int | None = None) -> Tensor:  # noqa: D102
        ...


EVERYTHING = slice(None)
# Entries of the scores that are made at one time: 512 KB in float32.
ENTRIES = 2**17
# Below this many scores a bracket costs more than it saves.
BRACKET_FROM = 2**16
NARROWEST, WIDEST = 2e-3, 0.2  # half the width of a bracket, relative to its middle
REACH = 4.0  # how many times its last move a threshold is expected to move


@dataclass
class ResidualMask:
    """The search, with what it knows from the last block.

    threshold  the last one, None before the first block
    width      half the width of the next bracket, relative to the threshold
    """

    threshold: float | None = None
    width: float = WIDEST

    def choose(self, scores: Scores, shape: tuple[int, int], count: Tensor, width: int) -> Tensor:
        """Mask of the first `width` columns: their weights among the `count` smallest scores.

        shape  of all scores, (c, |J|); ties go to the lower row-major index
        count  (), on the device of the scores
        """
        if count.device.type != "cpu":
            return smallest_on_device(scores(EVERYTHING), count, width)
        r, found = int(count), None
        if shape[0] * shape[1] >= BRACKET_FROM and 0 < r < shape[0] * shape[1]:
            found = self._search(scores, shape, r)
        if found is None:
            return smallest(scores(EVERYTHING), r)[:, :width]
        threshold, below, up_to = found
        self._remember(float(threshold))
        shown = scores(EVERYTHING, width)
        if up_to == r:
            return shown <= threshold
        # More weights equal the threshold than there is room for.
        ties = [(scores(rows) == threshold).sum(dim=1) for rows in _parts(shape)]
        return with_first_ties(shown, threshold, torch.cat(ties), r - below)

    def _search(
        self, scores: Scores, shape: tuple[int, int], count: int
    ) -> tuple[Tensor, int, int] | None:
        """The count-th smallest score, how many are below, how many up to it; None at a miss."""
        if self.threshold is None:
            self._sample(scores, shape, count)
        assert self.threshold is not None
        low, high = self.threshold * (1 - self.width), self.threshold * (1 + self.width)
        below, inside = 0, []
        for rows in _parts(shape):
            # NumPy compares and compresses several times faster than torch.
            part = scores(rows).numpy()
            under = part < low
            below += int(np.count_nonzero(under))
            inside.append(part[(part <= high) != under])
        between = torch.from_numpy(np.concatenate(inside))
        if not below < count <= below + len(between):
            self.width = WIDEST
            self.threshold = None
            return None
        threshold = kth_smallest(between, count - below)
        return (
            threshold,
            below + int(torch.count_nonzero(between < threshold)),
            below + int(torch.count_nonzero(between <= threshold)),
        )

    def _sample(self, scores: Scores, shape: tuple[int, int], count: int) -> None:
        """A first guess, from some rows."""
        rows, columns = shape
        some = scores(slice(0, rows, max(1, rows * columns // ENTRIES)))
        rank = max(1, count * some.numel() // (rows * columns))
        self.threshold = float(kth_smallest(some.flatten(), rank))

    def _remember(self, threshold: float) -> None:
        assert self.threshold is not None
        move = abs(threshold - self.threshold) / self.threshold if self.threshold else WIDEST
        self.width = min(max(REACH * move, NARROWEST), WIDEST)
        self.threshold = threshold


def _parts(shape: tuple[int, int]) -> list[slice]:
    """Rows to make the scores of at one time."""
    rows = max(1, ENTRIES // shape[1])
    return [slice(start, end) for start, end in column_blocks(shape[0], rows)]
