"""The residual mask (3): which weights of a block are among the r smallest of all that are left.

The scores of all columns from the block to the end are asked for one number, the r-th smallest.
From block to block it moves little. So on a CPU the scores are made some rows at a time, in a
buffer that stays in the cache, and counted below a bracket around the last threshold; only those
inside are kept and searched. Every step is exact: if the bracket misses, all scores are looked at.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from reference.patterns import column_blocks
from thanos_torch.methods.masks import (
    kth_smallest,
    scores,
    smallest,
    smallest_on_device,
    with_first_ties,
)

Array = Any  # of NumPy, which is reached through tensors alone
T = TypeVar("T")

# Scores that are made at one time: 512 KB in float32.
ENTRIES = 2**17
# Below this many scores a bracket costs more than it saves.
BRACKET_FROM = 2**16
NARROWEST, WIDEST = 2e-3, 0.2  # half the width of a bracket, relative to its middle
REACH = 4.0  # how many times its last move a threshold is expected to move


@dataclass(frozen=True)
class Candidates:
    """The weights of all columns that are left, (c, |J|), and what makes scores of them."""

    weight: Tensor
    factors: Tensor | None
    metric: str

    def scores(self, width: int | None = None) -> Tensor:
        """S, (c, |J|), or of the first `width` columns, in new memory."""
        known = None if self.factors is None else self.factors[:width]
        return scores(self.weight[:, :width], known, self.metric)

    def by_parts(self, look: Callable[[Array], T]) -> list[T]:
        """What `look` makes of the scores of some rows at a time, in the order of the rows."""
        W, factors = self.weight, self.factors
        return [
            # NumPy compares and compresses several times faster than torch.
            look(scores(W[start:end], factors, self.metric).numpy())
            for start, end in column_blocks(len(W), max(1, ENTRIES // W.shape[1]))
        ]


@dataclass
class ResidualMask:
    """The search, with what it knows from the last block.

    threshold  the last one, None before the first block
    width      half the width of the next bracket, relative to the threshold
    """

    threshold: float | None = None
    width: float = WIDEST

    def choose(self, left: Candidates, count: Tensor, width: int) -> Tensor:
        """Mask of the first `width` columns: their weights among the `count` smallest scores.

        `count` is (), on the device of the weights; ties go to the lower row-major index.
        """
        if count.device.type != "cpu":
            return smallest_on_device(left.scores(), count, width)
        r, found, entries = int(count), None, left.weight.numel()
        if entries >= BRACKET_FROM and 0 < r < entries:
            found = self._search(left, r)
        if found is None:
            return smallest(left.scores(), r)[:, :width]
        threshold, below, up_to = found
        self._remember(float(threshold))
        shown = left.scores(width)
        if up_to == r:
            return shown <= threshold
        # More weights equal the threshold than there is room for.
        least = threshold.numpy()
        ties = left.by_parts(lambda part: torch.from_numpy((part == least).sum(axis=1)))
        return with_first_ties(shown, threshold, torch.cat(ties), r - below)

    def _search(self, left: Candidates, count: int) -> tuple[Tensor, int, int] | None:
        """The count-th smallest score, how many are below, how many up to it; None at a miss."""
        if self.threshold is None:
            self._sample(left, count)
        assert self.threshold is not None
        low, high = self.threshold * (1 - self.width), self.threshold * (1 + self.width)

        def look(part: Array) -> tuple[int, Tensor]:
            under = part < low
            inside = (part <= high) != under
            # Indexing by a mask takes up to four times as long as compressing.
            between = torch.from_numpy(part.compress(inside.ravel()))
            return int(torch.count_nonzero(torch.from_numpy(under))), between

        counts, inside = zip(*left.by_parts(look), strict=True)
        below, between = sum(counts), torch.cat(inside)
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

    def _sample(self, left: Candidates, count: int) -> None:
        """A first guess, from some rows."""
        W = left.weight
        some = Candidates(W[:: max(1, W.numel() // ENTRIES)], left.factors, left.metric).scores()
        rank = max(1, count * some.numel() // W.numel())
        self.threshold = float(kth_smallest(some.flatten(), rank))

    def _remember(self, threshold: float) -> None:
        assert self.threshold is not None
        move = abs(threshold - self.threshold) / self.threshold if self.threshold else WIDEST
        self.width = min(max(REACH * move, NARROWEST), WIDEST)
        self.threshold = threshold
