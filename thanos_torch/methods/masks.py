"""Which weights go: scores, outlier rows, the residual mask, the k smallest. Spec 2, 3 and 7.

The residual mask (3) asks which weights of a block are among the r smallest of all that are left.
The scores of all columns from the block to the end are needed for one number, the r-th smallest.
From block to block it moves little. So on a CPU the scores are made some rows at a time, in a
buffer that stays in the cache, and counted below a bracket around the last threshold; only those
inside are kept and searched. Every step is exact: if the bracket misses, all scores are looked at.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from reference.patterns import Pattern, Unstructured, column_blocks
from thanos_torch.methods.devices import on_host
from thanos_torch.methods.factor import Factor
from thanos_torch.methods.problem import ScaledLayer

# A NumPy array from `tensor.numpy()`; this module never imports NumPy, so it cannot name the type.
Array = Any
T = TypeVar("T")

# Scores that are made at one time: 512 KB in float32.
SCORES = 2**17
# Below this many scores a bracket costs more than it saves.
BRACKET_FROM = 2**16
NARROWEST, WIDEST = 2e-3, 0.2  # half the width of a bracket, relative to its middle
REACH = 4.0  # how many times its last move a threshold is expected to move
SAMPLE = 2**13  # values that `smallest` guesses its bracket from


@dataclass(frozen=True)
class Candidates:
    """Weights that may be removed, and what makes scores of them. Spec (2) and section 7.

    weight   (c, |J|), of the columns J that are left, in the units of the layer
    factors  (|J|,), what the metric needs to know of these columns; None for "magnitude"
    metric   "wanda", "magnitude" or "obs", as for `thanos`; "sparsegpt", W² / U_jj²
    """

    weight: Tensor
    factors: Tensor | None
    metric: str

    def scores(self) -> Tensor:
        """S, (c, |J|), in new memory."""
        if self.factors is None:
            return self.weight.abs()
        if self.metric == "obs":
            return self.weight.square().div_(self.factors)
        if self.metric == "sparsegpt":
            return (self.weight / self.factors).square_()
        return self.weight.abs().mul_(self.factors)

    def columns(self, start: int, end: int | None = None) -> "Candidates":
        """Those of the columns [start, end)."""
        factors = None if self.factors is None else self.factors[start:end]
        return Candidates(self.weight[:, start:end], factors, self.metric)

    def rows(self, rows: slice | Tensor) -> "Candidates":
        """Those of some rows."""
        return Candidates(self.weight[rows], self.factors, self.metric)

    def by_parts(self, look: Callable[[Array], T]) -> list[T]:
        """What `look` makes of the scores of some rows at a time, in the order of the rows."""
        c, columns = self.weight.shape
        return [
            # NumPy compares and compresses several times faster than torch.
            look(self.rows(slice(start, end)).scores().numpy())
            for start, end in column_blocks(c, max(1, SCORES // columns))
        ]


def column_factors(
    layer: ScaledLayer, metric: str, factor: Factor | None, j1: int = 0
) -> Tensor | None:
    """What a metric needs to know of the columns J = [j1, b), (|J|,), for `Candidates`.

    factor  of the layer; only "obs" needs it
    """
    if metric == "magnitude":
        return None
    if metric == "wanda":
        return layer.column_norms()[j1:]
    assert factor is not None
    return factor.U[j1:, j1:].square().sum(dim=0)  # the diagonal of (H_JJ)⁻¹ = U_JJᵀ U_JJ


def outlier_mask(layer: ScaledLayer, W: Tensor, pattern: Pattern, outlier_score: str) -> Tensor:
    """True for the rows that stay as they are: those with the largest h_i = (W G Wᵀ)_ii. (c, 1)

    W              (c, b), the layer's weight in its units, before any update
    outlier_score  "wanda": the largest Σ_j W_ij² G_jj instead, an ablation of section 7
    """
    outliers = torch.zeros(len(W), 1, dtype=torch.bool, device=W.device)
    count = 0 if isinstance(pattern, Unstructured) else pattern.outliers(len(W))
    if count:
        if outlier_score == "wanda":
            h = W.square().mul_(layer.squared_norms()).sum(dim=1)
        else:
            # The part of G that its transpose lacks cancels in W G Wᵀ.
            G = layer.scaled_gram(W.dtype, symmetrised=False)
            h = torch.bmm((W @ G)[:, None, :], W[:, :, None]).flatten()
        largest = h.sort(descending=True, stable=True).indices[:count]
        outliers.index_fill_(0, largest, True)
    return outliers


@dataclass
class ResidualMask:
    """Searches the residual mask (3), with what it knows from the last block.

    threshold  the last one, None before the first block
    width      half the width of the next bracket, relative to the threshold
    """

    threshold: float | None = None
    width: float = WIDEST

    def choose(self, left: Candidates, count: Tensor, width: int) -> Tensor:
        """Mask of the first `width` columns: their weights among the `count` smallest scores.

        `count` is (), on the device of the weights; ties go to the lower row-major index.
        """
        if not on_host(count):
            return smallest_on_device(left.scores(), count, width)
        r, found, entries = int(count), None, left.weight.numel()
        if entries >= BRACKET_FROM and 0 < r < entries:
            found = self._search(left, r)
        if found is None:
            return smallest(left.scores(), r)[:, :width]
        self._remember(float(found.threshold))
        shown = left.columns(0, width).scores()
        if found.up_to == r:
            return shown <= found.threshold
        # More weights equal the threshold than there is room for.
        least = found.threshold.numpy()
        ties = left.by_parts(lambda part: torch.from_numpy((part == least).sum(axis=1)))
        return with_first_ties(shown, found.threshold, torch.cat(ties), r - found.below)

    def _search(self, left: Candidates, count: int) -> "_Ranked | None":
        """The count-th smallest score, or None if the bracket misses it."""
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
        return _ranked(between, count, below)

    def _sample(self, left: Candidates, count: int) -> None:
        """A first guess, from some rows."""
        entries = left.weight.numel()
        some = left.rows(slice(None, None, max(1, entries // SCORES))).scores()
        rank = max(1, count * some.numel() // entries)
        self.threshold = float(kth_smallest(some.flatten(), rank))

    def _remember(self, threshold: float) -> None:
        assert self.threshold is not None
        move = abs(threshold - self.threshold) / self.threshold if self.threshold else WIDEST
        self.width = min(max(REACH * move, NARROWEST), WIDEST)
        self.threshold = threshold


def smallest(values: Tensor, count: int) -> Tensor:
    """Mask of the `count` smallest entries of a whole matrix."""
    if count <= 0:
        return torch.zeros_like(values, dtype=torch.bool)
    if count >= values.numel():
        return torch.ones_like(values, dtype=torch.bool)
    if not on_host(values):
        first = values.flatten().argsort(stable=True)[:count]  # few launches, and no wait
        mask = torch.zeros(values.numel(), dtype=torch.bool, device=values.device)
        return mask.index_fill_(0, first, True).view(values.shape)
    found = _threshold(values.flatten(), count)
    if found.up_to == count:
        return values <= found.threshold
    ties_of_rows = (values == found.threshold).sum(dim=1)
    return with_first_ties(values, found.threshold, ties_of_rows, count - found.below)


def smallest_on_device(values: Tensor, count: Tensor, width: int | None = None) -> Tensor:
    """The first `width` columns of `smallest`, without waiting for a device.

    values  nonnegative: the bits of such floats are in the order of the floats, so the threshold
            is found bit by bit, in as many passes as there are bits, whatever the values
    count   a tensor, (), on the device of the values
    """
    integer = torch.int64 if values.dtype == torch.float64 else torch.int32
    bits = values.contiguous().view(integer)
    low = torch.zeros((), dtype=integer, device=values.device)
    high = torch.full_like(low, torch.iinfo(integer).max)
    for _ in range(torch.iinfo(integer).bits - 1):
        middle = low + (high - low) // 2
        enough = (bits <= middle).sum() >= count
        low, high = torch.where(enough, low, middle + 1), torch.where(enough, middle, high)
    threshold = high.view(values.dtype)
    room = count - (bits < high).sum()
    return with_first_ties(values[:, :width], threshold, (bits == high).sum(dim=1), room)


def with_first_ties(
    shown: Tensor, threshold: Tensor, ties_of_rows: Tensor, room: int | Tensor
) -> Tensor:
    """Entries below the threshold, and the first of those equal to it, row by row.

    shown         the first columns of a matrix
    ties_of_rows  entries of the whole matrix that equal the threshold, (rows,)
    room          how many of those are taken
    """
    before = (ties_of_rows.cumsum(dim=0) - ties_of_rows)[:, None]  # in the rows above
    ties = shown == threshold
    ties &= before + ties.cumsum(dim=1) <= room
    return (shown < threshold).logical_or_(ties)


def smallest_of_each_row(values: Tensor, count: int) -> Tensor:
    """Mask of the `count` smallest entries of each row, (rows, columns)."""
    if count <= 0:
        return torch.zeros_like(values, dtype=torch.bool)
    threshold = values.kthvalue(count, dim=1, keepdim=True).values
    below = values < threshold
    ties = values == threshold
    missing = count - below.sum(dim=1, keepdim=True)
    return below | (ties & (ties.cumsum(dim=1) <= missing))


def smallest_of_each_group(values: Tensor, n: int, m: int) -> Tensor:
    """Mask of the `n` smallest of every aligned group of `m` columns of a row. Spec (4)."""
    rows, columns = values.shape
    groups = values.reshape(rows, columns // m, m).permute(2, 0, 1).contiguous()
    mask = smallest_of_first(groups, n)
    return mask.permute(1, 2, 0).reshape(rows, columns)


def smallest_of_first(values: Tensor, n: int) -> Tensor:
    """Mask of the `n` smallest along the first dimension, ties to the lower index."""
    # A value is among the n smallest if fewer than n come before it in the stable order: m passes
    # over the matrix, no sort.
    m = len(values)
    rank = torch.zeros_like(values, dtype=torch.uint8 if m < 2**8 else torch.int32)
    for other in range(m):
        rank[:other] += values[other] < values[:other]
        rank[other + 1 :] += values[other] <= values[other + 1 :]
    return rank < n


class _Ranked(NamedTuple):
    """The k-th smallest of some values, how many are below it, and how many up to it."""

    threshold: Tensor
    below: int
    up_to: int


def _ranked(inside: Tensor, k: int, below: int) -> _Ranked:
    """The k-th smallest of some values of which `below` are smaller than all those `inside`."""
    threshold = kth_smallest(inside, k - below)
    return _Ranked(
        threshold,
        below + int(torch.count_nonzero(inside < threshold)),
        below + int(torch.count_nonzero(inside <= threshold)),
    )


def _threshold(values: Tensor, k: int) -> _Ranked:
    """The k-th smallest of flat values."""
    if len(values) >= BRACKET_FROM:
        low, high = _bracket(values, k)
        below = int(torch.count_nonzero(values < low))
        between = values[(values >= low) & (values <= high)]
        # The bracket comes from a sample and may miss; then all values are looked at.
        if below < k <= below + len(between):
            return _ranked(between, k, below)
    return _ranked(values, k, 0)


def kth_smallest(values: Tensor, k: int) -> Tensor:
    """The k-th smallest of flat values, on the CPU."""
    # NumPy's introselect takes a twentieth of the time of torch's kthvalue, and there is but one
    # k-th smallest number.
    copy = values.numpy().copy()
    copy.partition(k - 1)
    return values.new_tensor(copy[k - 1])


def _bracket(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Two values that very likely enclose the count-th smallest, guessed from a sample."""
    sample = values[:: len(values) // SAMPLE].sort().values
    middle = count * len(sample) // len(values)
    # Four standard deviations of the rank of a quantile in a sample.
    reach = 2 * int(len(sample) ** 0.5) + 1
    low = sample[max(middle - reach, 0)] if middle > reach else values.new_tensor(-1.0)
    high = sample[min(middle + reach, len(sample) - 1)]
    return low, high
