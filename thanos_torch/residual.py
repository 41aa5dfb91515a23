"""The residual mask (3): which weights of a block are among the r smallest of all that are left.

The scores of all columns from the block to the end are asked for one number, the r-th smallest.
From block to block it moves little. So the scores are made row by row in a buffer that stays in
the cache, counted below a bracket around the last threshold, and only those inside are kept and
searched. Every step is exact: if the bracket misses, all scores are looked at.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from reference.patterns import column_blocks
from thanos_torch.selection import kth_smallest, smallest


class Scores(Protocol):
    """S of some rows and of the columns J, or the first `width` of them, in new memory."""

    def __call__(self, rows: slice, width: int | None = None) -> Tensor:  # noqa: D102
        ...


# Entries of the scores that are made at one time: 512 KB in float32.
ENTRIES = 2**18
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

    def choose(self, scores: Scores, shape: tuple[int, int], count: int, width: int) -> Tensor:
        """Mask of the first `width` columns: their weights among the `count` smallest scores.

        shape  of all scores, (c, |J|); ties go to the lower row-major index
        """
        rows, columns = shape
        everything = slice(0, rows)
        found = None
        if rows * columns >= BRACKET_FROM and 0 < count < rows * columns:
            found = self._search(scores, shape, count)
        if found is None:
            return smallest(scores(everything), count, width)
        threshold, up_to = found
        self._remember(float(threshold))
        if up_to != count:  # more weights equal the threshold than there is room for
            return smallest(scores(everything), count, width)
        return scores(everything, width) <= threshold

    def _search(
        self, scores: Scores, shape: tuple[int, int], count: int
    ) -> tuple[Tensor, int] | None:
        """The count-th smallest score and how many are up to it; None if the bracket missed."""
        if self.threshold is None:
            self._sample(scores, shape, count)
        assert self.threshold is not None
        low, high = self.threshold * (1 - self.width), self.threshold * (1 + self.width)
        below, inside = 0, []
        for start, end in column_blocks(shape[0], max(1, ENTRIES // shape[1])):
            part = scores(slice(start, end))
            under = part < low
            below += int(torch.count_nonzero(under))
            inside.append(_kept(part, (part <= high).logical_xor_(under)))
        between = torch.cat(inside)
        if not below < count <= below + len(between):
            self.width = WIDEST
            self.threshold = None
            return None
        threshold = kth_smallest(between, count - below)
        return threshold, below + int(torch.count_nonzero(between <= threshold))

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


def _kept(values: Tensor, mask: Tensor) -> Tensor:
    """values[mask]; NumPy skips runs of False, which torch counts one by one."""
    if values.device.type != "cpu":
        return values[mask]
    return torch.from_numpy(values.numpy()[mask.numpy()])
