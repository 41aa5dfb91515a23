"""Mask of the n smallest scores of every aligned group of m columns of a row. Spec (4).

Mathematics. A weight is among the n smallest of its group if fewer than n others come before it:
those with a smaller score, and those with the same score in an earlier column. So every weight
counts the m - 1 others of its group, without a sort and without a power of two for m. Comparisons
of scores that are rounded as PyTorch rounds them make the mask that of a stable sort, bit for bit.

A weight is read m times, m - 1 times of these from the cache.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from thanos_torch.methods.kernels.scores import key, score

ROWS = 16
WARPS = 4


@triton.jit
def _scored(weight, factors, row, column, rows, width, stride, METRIC: tl.constexpr):
    """Keys of the scores of some rows in some columns, (ROWS, COLUMNS)."""
    at = row.to(tl.int64)[:, None] * stride + column[None, :]
    w = tl.load(weight + at, mask=(row[:, None] < rows) & (column[None, :] < width), other=0.0)
    f = tl.load(factors + column, mask=column < width, other=1.0)[None, :]
    return key(score(w, f, METRIC))


@triton.jit
def _mark(
    weight, factors, kept_rows, picks, rows, width, n, m, stride, picks_stride,
    METRIC: tl.constexpr, KEEPS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The mask of a tile of rows; rows that are kept have no picks."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    own = _scored(weight, factors, row, column, rows, width, stride, METRIC)
    rank = tl.zeros((ROWS, COLUMNS), tl.int32)  # weights of the group that come before this one
    place = column % m
    for step in range(1, m):
        other_place = (place + step) % m
        column_of_other = column - place + other_place
        other = _scored(weight, factors, row, column_of_other, rows, width, stride, METRIC)
        first = (other_place < place)[None, :]
        rank += ((other < own) | ((other == own) & first)).to(tl.int32)
    picked = rank < n
    if KEEPS:
        kept = tl.load(kept_rows + row, mask=row < rows, other=1).to(tl.int1)
        picked = picked & (kept == 0)[:, None]
    inside = (row[:, None] < rows) & (column[None, :] < width)
    tl.store(
        picks + row.to(tl.int64)[:, None] * picks_stride + column[None, :], picked, mask=inside
    )


@torch.library.custom_op("thanos::smallest_of_groups", mutates_args={"picks"})
def smallest_of_groups(
    weight: Tensor, factors: Tensor | None, metric: int, n: int, m: int, kept_rows: Tensor | None,
    picks: Tensor,
) -> None:  # fmt: skip
    """Mark the n smallest scores of every group of m columns.

    weight     (c, width), float32 or float64, a row contiguous; m divides width
    factors    (width,), contiguous, what the metric needs to know of the columns, or None
    metric     of `scores.py`
    kept_rows  (c,) or (c, 1), bool, contiguous: rows without picks; or None
    picks      (c, width), bool, overwritten
    """
    rows, width = weight.shape
    with torch.cuda.device_of(weight):
        _mark[(triton.cdiv(rows, ROWS),)](
            weight, weight if factors is None else factors,
            picks if kept_rows is None else kept_rows, picks, rows, width, n, m,
            weight.stride(0), picks.stride(0), METRIC=metric, KEEPS=kept_rows is not None,
            ROWS=ROWS, COLUMNS=triton.next_power_of_2(width), num_warps=WARPS,
        )  # fmt: skip


@smallest_of_groups.register_fake
def _(weight, factors, metric, n, m, kept_rows, picks) -> None:
    return None


def launches() -> int:
    """Kernels that one call of `smallest_of_groups` launches."""
    return 1
