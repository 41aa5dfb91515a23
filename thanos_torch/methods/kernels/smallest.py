"""Mask of the r smallest scores of a matrix, ties to the lower row-major index. Spec (3).

Mathematics. Let k_ij be the bits of score S_ij as a whole number (`scores.py`): k is in the order
of S. The r-th smallest key t is found digit by digit, the most significant first. One pass counts
how often each digit occurs among the keys that begin with the digits found so far; the next digit
is the one at which the running sum of the counts reaches the rank that is left. With `below` keys
smaller than t, the mask is

    k_ij < t,  or  k_ij = t for the first r - below such entries in row-major order.

Why it is equal to a stable sort: the keys are whole numbers, the counts are exact, and integer sums
do not depend on the order in which the programs add them. No sample, no bracket, no rounding.

Passes over the matrix: float32 has 31 bits beside its sign, digits of 11, 10 and 10: three passes.
float64 has 63, digits of 11, 11, 11, 10, 10 and 10: six. One more pass counts the ties of every
row, but only if not all ties are taken; otherwise its programs return at once. Every pass computes
the scores anew, which is cheaper than to write them.

The rank may depend on the device: it is `count - removed`, with `removed` a tensor. Entries are
counted in 32 bits: at most 2³¹ - 1 of them.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from thanos_torch.methods.kernels.scores import key, score

# (shift, bits) of the digits, the most significant first.
DIGITS = {
    torch.float32: ((20, 11), (10, 10), (0, 10)),
    torch.float64: ((52, 11), (41, 11), (30, 11), (20, 10), (10, 10), (0, 10)),
}
BINS = 2048
STATES = 16  # whole numbers of the state; it comes before the histograms
# Entries of a tile of the passes, its rows, and the most programs of a pass.
TILE, TILE_ROWS, PROGRAMS = 8192, 8, 1024
WARPS = 8


@triton.jit
def _digest(counts_at, rank, BINS: tl.constexpr):
    """The digit at which the running sum reaches `rank`, the count below it, and at it."""
    bins = tl.arange(0, BINS)
    counts = tl.load(counts_at + bins)
    # A rank beyond all keys leads to the largest digit, and so to a mask of everything.
    digit = tl.minimum(tl.sum((tl.cumsum(counts, 0) < rank).to(tl.int32), 0), BINS - 1)
    below = tl.sum(tl.where(bins < digit, counts, 0), 0)
    at = tl.sum(tl.where(bins == digit, counts, 0), 0)
    return digit, below, at


@triton.jit
def _found(state, histograms, count, removed, PASS: tl.constexpr, BITS: tl.constexpr):
    """Digits found before pass PASS, as a whole number, the rank among their keys, their count.

    BITS  of the digit of the pass before
    """
    if PASS == 1:
        above = tl.full((), 0, tl.int64)
        rank = count - tl.load(removed)
    else:
        above = tl.load(state + 2 * (PASS - 1))
        rank = tl.load(state + 2 * (PASS - 1) + 1)
    digit, below, at = _digest(histograms + (PASS - 1) * 2048, rank, 1 << BITS)
    above = (above << BITS) | digit
    return above, rank - below, at


@triton.jit(do_not_specialize=["count"])
def _count_digits(
    weight, factors, removed, state, histograms, count, rows, columns, stride, share,
    METRIC: tl.constexpr, PASS: tl.constexpr, SHIFT: tl.constexpr, BITS: tl.constexpr,
    BITS_BEFORE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Add the digits of a tile of rows, in `share` columns, to the histogram of a pass."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    start = tl.program_id(1) * share
    end = tl.minimum(start + share, columns)
    if PASS > 0:
        above, rank, _ = _found(state, histograms, count, removed, PASS, BITS_BEFORE)
        if (tl.program_id(0) == 0) & (tl.program_id(1) == 0):
            tl.store(state + 2 * PASS, above)
            tl.store(state + 2 * PASS + 1, rank)
    total = tl.zeros((1 << BITS,), tl.int32)
    for first in range(start, end, COLUMNS):
        column = first + tl.arange(0, COLUMNS)
        inside = (row[:, None] < rows) & (column[None, :] < end)  # (ROWS, COLUMNS)
        at = row.to(tl.int64)[:, None] * stride + column[None, :]
        w = tl.load(weight + at, mask=inside, other=0.0)
        f = tl.load(factors + column, mask=column < end, other=1.0)[None, :]
        k = key(score(w, f, METRIC))
        if PASS > 0:
            inside = inside & ((k >> (SHIFT + BITS)).to(tl.int64) == above)
        digit = ((k >> SHIFT) & ((1 << BITS) - 1)).to(tl.int32)
        total += tl.histogram(
            tl.reshape(digit, (ROWS * COLUMNS,)),
            1 << BITS,
            mask=tl.reshape(inside, (ROWS * COLUMNS,)),
        )
    bins = tl.arange(0, 1 << BITS)
    tl.atomic_add(histograms + PASS * 2048 + bins, total, mask=total > 0, sem="relaxed")


@triton.jit(do_not_specialize=["count"])
def _count_ties(
    weight, factors, removed, state, histograms, ties, count, rows, columns, stride,
    METRIC: tl.constexpr, PASSES: tl.constexpr, BITS_BEFORE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Store the threshold, the room for ties, and the ties of every row if they do not all fit."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    threshold, room, equal = _found(state, histograms, count, removed, PASSES, BITS_BEFORE)
    if tl.program_id(0) == 0:
        tl.store(state, threshold)
        tl.store(state + 1, tl.where(equal <= room, -1, room))  # -1: all ties are taken
    if equal > room:
        of_rows = tl.zeros((ROWS,), tl.int32)
        for first in range(0, columns, COLUMNS):
            column = first + tl.arange(0, COLUMNS)
            inside = (row[:, None] < rows) & (column[None, :] < columns)
            at = row.to(tl.int64)[:, None] * stride + column[None, :]
            w = tl.load(weight + at, mask=inside, other=0.0)
            f = tl.load(factors + column, mask=column < columns, other=1.0)[None, :]
            tie = inside & (key(score(w, f, METRIC)).to(tl.int64) == threshold)
            of_rows += tl.sum(tie.to(tl.int32), 1)
        tl.store(ties + row, of_rows, mask=row < rows)


@triton.jit
def _mark(
    weight, factors, state, histograms, ties, picks, rows, width, stride, picks_stride, cleared,
    METRIC: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """The mask of the first `width` columns of a tile of rows; clears the histograms as well."""
    first_row = tl.program_id(0) * ROWS
    row = first_row + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    threshold, room = tl.load(state), tl.load(state + 1)
    if tl.program_id(0) == 0:
        for start in range(0, cleared, CHUNK):
            bins = start + tl.arange(0, CHUNK)
            tl.store(histograms + bins, tl.zeros((CHUNK,), tl.int32), mask=bins < cleared)
    inside = (row[:, None] < rows) & (column[None, :] < width)  # (ROWS, COLUMNS)
    at = row.to(tl.int64)[:, None] * stride + column[None, :]
    w = tl.load(weight + at, mask=inside, other=0.0)
    f = tl.load(factors + column, mask=column < width, other=1.0)[None, :]
    k = key(score(w, f, METRIC)).to(tl.int64)
    tie = k == threshold
    if room >= 0:
        before = tl.full((), 0, tl.int64)
        for start in range(0, first_row, CHUNK):
            above = start + tl.arange(0, CHUNK)
            before += tl.sum(tl.load(ties + above, mask=above < first_row, other=0), 0)
        own = tl.load(ties + row, mask=row < rows, other=0)
        before_row = before + tl.cumsum(own, 0) - own  # ties of all rows above, (ROWS,)
        tie = tie & (before_row[:, None] + tl.cumsum(tie.to(tl.int32), 1) <= room)
    tl.store(
        picks + row.to(tl.int64)[:, None] * picks_stride + column,
        (k < threshold) | tie,
        mask=inside,
    )


def workspace_size(dtype: torch.dtype) -> int:
    """Length of the zeros, int32, that calls one after another share; each leaves zeros again."""
    return 2 * STATES + len(DIGITS[dtype]) * BINS


@torch.library.custom_op("thanos::smallest", mutates_args={"work", "picks"})
def smallest(
    weight: Tensor, factors: Tensor | None, metric: int, count: int, removed: Tensor, work: Tensor,
    picks: Tensor,
) -> None:  # fmt: skip
    """Mark, in the first columns of a matrix, those of its `count - removed` smallest scores.

    weight   (c, columns), float32 or float64, a row contiguous
    factors  (columns,), contiguous, what the metric needs to know of the columns, or None
    metric   of `scores.py`
    removed  (1,), int64
    work     (`workspace_size`,), int32, its memory aligned to 8 bytes
    picks    (c, width), bool, overwritten
    """
    rows, columns = weight.shape
    state, histograms = work[: 2 * STATES].view(torch.int64), work[2 * STATES :]
    ties = torch.empty(rows, dtype=torch.int32, device=weight.device)
    known = weight if factors is None else factors
    tile_rows = min(TILE_ROWS, triton.next_power_of_2(rows))
    tile_columns = min(TILE // tile_rows, triton.next_power_of_2(columns))
    tiles = triton.cdiv(rows, tile_rows)
    parts = max(1, min(triton.cdiv(columns, tile_columns), PROGRAMS // tiles))
    share = triton.cdiv(triton.cdiv(columns, parts), tile_columns) * tile_columns
    sizes = {"ROWS": tile_rows, "COLUMNS": tile_columns, "num_warps": WARPS}
    digits, bits = DIGITS[weight.dtype], 0
    with torch.cuda.device_of(weight):
        for number, (shift, own) in enumerate(digits):
            _count_digits[tiles, parts](
                weight, known, removed, state, histograms, count, rows, columns, weight.stride(0),
                share, METRIC=metric, PASS=number, SHIFT=shift, BITS=own, BITS_BEFORE=bits, **sizes,
            )  # fmt: skip
            bits = own
        _count_ties[(tiles,)](
            weight, known, removed, state, histograms, ties, count, rows, columns, weight.stride(0),
            METRIC=metric, PASSES=len(digits), BITS_BEFORE=bits, **sizes,
        )  # fmt: skip
        _mark[(tiles,)](
            weight, known, state, histograms, ties, picks, rows, picks.shape[1], weight.stride(0),
            picks.stride(0), len(histograms), METRIC=metric, ROWS=tile_rows,
            COLUMNS=triton.next_power_of_2(picks.shape[1]), CHUNK=BINS, num_warps=WARPS,
        )  # fmt: skip


@smallest.register_fake
def _(weight, factors, metric, count, removed, work, picks) -> None:
    return None


def launches(dtype: torch.dtype) -> int:
    """Kernels that one call of `smallest` launches."""
    return len(DIGITS[dtype]) + 2
