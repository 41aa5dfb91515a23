"""The k smallest, ties to the lower row-major index. Spec section 2."""

import torch
from torch import Tensor


def smallest(values: Tensor, count: int) -> Tensor:
    """Mask of the `count` smallest entries of a whole matrix."""
    return smallest_of_each_row(values.reshape(1, -1), count).view(values.shape)


def smallest_of_each_row(values: Tensor, count: int) -> Tensor:
    """Mask of the `count` smallest entries of each row, (rows, columns)."""
    if count <= 0:
        return torch.zeros_like(values, dtype=torch.bool)
    if count >= values.shape[1]:
        return torch.ones_like(values, dtype=torch.bool)
    # A selection, not a sort: what is below the count-th smallest is in, what equals it is in
    # from the left until the count is full.
    threshold = values.kthvalue(count, dim=1, keepdim=True).values
    mask = values <= threshold
    if int(mask.sum()) > count * len(values):
        below = values < threshold
        ties = mask & ~below
        missing = count - below.sum(dim=1, keepdim=True)
        mask = below | (ties & (ties.cumsum(dim=1) <= missing))
    return mask


def smallest_of_each_group(values: Tensor, n: int, m: int) -> Tensor:
    """Mask of the `n` smallest of every aligned group of `m` columns of a row. Spec (4)."""
    groups = values.reshape(*values.shape[:-1], -1, m)  # (c, groups, m)
    # A weight goes if fewer than n of its group come before it: m passes over the matrix, no sort.
    rank = torch.zeros_like(groups, dtype=torch.int16 if m < 2**15 else torch.int32)
    for other in range(m):
        column = groups[..., other : other + 1]
        rank[..., :other] += column < groups[..., :other]
        rank[..., other + 1 :] += column <= groups[..., other + 1 :]
    return (rank < n).reshape(values.shape)
