"""The k smallest, ties to the lower row-major index. Spec section 2."""

import torch
from torch import Tensor

# Below this many values the sample costs more than it saves.
SAMPLE_FROM = 2**16
SAMPLE = 2**13


def smallest(values: Tensor, count: int, width: int | None = None) -> Tensor:
    """Mask of the `count` smallest entries of a whole matrix, its first `width` columns only."""
    shown = values[:, :width]
    if count <= 0:
        return torch.zeros_like(shown, dtype=torch.bool)
    if count >= values.numel():
        return torch.ones_like(shown, dtype=torch.bool)
    threshold, below, up_to = _threshold(values.flatten(), count)
    if up_to == count:
        return shown <= threshold
    # More weights equal the threshold than there is room for: the first of them, row by row.
    ties = values == threshold
    ties &= ties.flatten().cumsum(0).view_as(ties) <= count - below
    return (values < threshold).logical_or_(ties)[:, :width]


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
    """The k-th smallest of flat values: one number, so that any way of finding it is the same."""
    if values.device.type != "cpu":
        return values.kthvalue(k).values
    # NumPy's introselect takes a twentieth of the time of torch's kthvalue on a CPU.
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
