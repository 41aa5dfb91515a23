"""Mask rules: scores, the outlier rows, the k smallest with ties. Spec sections 2, 3 and 7."""

import torch
from torch import Tensor

from reference.patterns import Pattern, Unstructured
from thanos_torch.methods.scaled import ScaledLayer


def column_factors(layer: ScaledLayer, U_JJ: Tensor, metric: str) -> Tensor | None:
    """What (2), or another metric of section 7, needs to know of the columns J, (|J|,)."""
    if metric == "magnitude":
        return None
    if metric == "obs":
        return U_JJ.square().sum(dim=0)  # the diagonal of (H_JJ)⁻¹ = U_JJᵀ U_JJ
    return layer.column_norms()[-len(U_JJ) :]


def scores(W: Tensor, factors: Tensor | None, metric: str) -> Tensor:
    """S of some weights, in new memory; `factors` are those of their columns."""
    if factors is None:
        return W.abs()
    if metric == "obs":
        return W.square().div_(factors)
    return W.abs().mul_(factors)


def outlier_mask(layer: ScaledLayer, pattern: Pattern, outlier_score: str) -> Tensor:
    """True for the rows that stay as they are: those with the largest h_i = (W G Wᵀ)_ii. (c, 1)

    outlier_score  "wanda": the largest Σ_j W_ij² G_jj instead, an ablation of section 7
    """
    W = layer.weight
    outliers = torch.zeros(len(W), 1, dtype=torch.bool, device=W.device)
    count = 0 if isinstance(pattern, Unstructured) else pattern.outliers(len(W))
    if count:
        if outlier_score == "wanda":
            h = W.square().mul_(layer.squared_norms()).sum(dim=1)
        else:
            h = ((W @ layer.scaled_gram(W.dtype)) * W).sum(dim=1)
        largest = h.sort(descending=True, stable=True).indices[:count]
        outliers.index_fill_(0, largest, True)
    return outliers


# Below this many values the sample costs more than it saves.
SAMPLE_FROM = 2**16
SAMPLE = 2**13


def smallest(values: Tensor, count: int) -> Tensor:
    """Mask of the `count` smallest entries of a whole matrix."""
    if count <= 0:
        return torch.zeros_like(values, dtype=torch.bool)
    if count >= values.numel():
        return torch.ones_like(values, dtype=torch.bool)
    if values.device.type != "cpu":
        return smallest_on_device(values, torch.full((), count, device=values.device))
    threshold, below, up_to = _threshold(values.flatten(), count)
    if up_to == count:
        return values <= threshold
    ties_of_rows = (values == threshold).sum(dim=1)
    return with_first_ties(values, threshold, ties_of_rows, count - below)


def smallest_on_device(values: Tensor, count: Tensor, width: int | None = None) -> Tensor:
    """The same of nonnegative values without waiting for the device; `count` is a tensor, ().

    Of the first `width` columns only. The bits of nonnegative floats are in the order of the
    floats, so the threshold is found bit by bit: as many passes as bits, whatever the values.
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
    # A weight goes if fewer than n of its group come before it: m passes over the matrix, no sort.
    m = len(values)
    rank = torch.zeros_like(values, dtype=torch.uint8 if m < 2**8 else torch.int32)
    for other in range(m):
        rank[:other] += values[other] < values[:other]
        rank[other + 1 :] += values[other] <= values[other + 1 :]
    return rank < n


def _threshold(values: Tensor, count: int) -> tuple[Tensor, int, int]:
    """The count-th smallest of flat values; how many are below it; how many are up to it."""
    below, inside = 0, values
    if len(values) >= SAMPLE_FROM:
        low, high = _bracket(values, count)
        under = int(torch.count_nonzero(values < low))
        between = values[(values >= low) & (values <= high)]
        # The bracket comes from a sample and may miss; then all values are looked at.
        if under < count <= under + len(between):
            below, inside = under, between
    threshold = kth_smallest(inside, count - below)
    return (
        threshold,
        below + int(torch.count_nonzero(inside < threshold)),
        below + int(torch.count_nonzero(inside <= threshold)),
    )


def kth_smallest(values: Tensor, k: int) -> Tensor:
    """The k-th smallest of flat values on the CPU, for any way of finding it is the same."""
    # NumPy's introselect takes a twentieth of the time of torch's kthvalue.
    copy = values.numpy().copy()
    copy.partition(k - 1)
    return values.new_tensor(copy[k - 1])


def _bracket(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Two values that very likely enclose the count-th smallest, from every so many-th value."""
    sample = values[:: len(values) // SAMPLE].sort().values
    middle = count * len(sample) // len(values)
    # Four standard deviations of the rank of a quantile in a sample.
    reach = 2 * int(len(sample) ** 0.5) + 1
    low = sample[max(middle - reach, 0)] if middle > reach else values.new_tensor(-1.0)
    high = sample[min(middle + reach, len(sample) - 1)]
    return low, high
