"""SparseGPT's sweep over the columns of a block, in one launch. Spec section 6.

Mathematics. Column j of row i is removed by W_ij: <- W_ij: - (W_ij / U_jj) U_jj:, one column after
another, the earlier ones frozen. With e = -W_ij / U_jj on the picks and 0 elsewhere, the columns
behind j move by e U_j:, and the e of all columns are E_k. For n:m the picks of a group are the n
smallest (W / U_jj)² of its m columns when the sweep gets there, ties to the lower column.

Why it is equal: the order of the columns and of the operations on one weight is that of the loop in
the specification. A weight receives the moves of earlier columns one after another, and nothing is
summed up in another order. Scores are rounded as PyTorch rounds them (`scores.py`).

Layout. A program holds ROWS rows by COLUMNS columns in registers and loops over the columns. It is
one warp, so that a row's column is found by a reduction without a barrier. Row j of U comes from
the cache.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from thanos_torch.methods.kernels.scores import SPARSEGPT, divided, key, score

WIDEST = 256  # columns that fit into the registers of a warp
ENTRIES = 1024  # of a program: 8 rows at B = 128


@triton.jit
def _column(values, column, j):
    """Column j of some rows, (ROWS,); exact, for all other terms are 0."""
    return tl.sum(tl.where((column == j)[None, :], values, 0), 1)


@triton.jit
def _sweep(
    weight, picks, U, E, rows, width, n, m, weight_stride, picks_stride, U_stride,
    METRIC: tl.constexpr, CHOOSES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The whole sweep of a tile of rows; `picks` is read, or written if the kernel CHOOSES."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    inside = (row[:, None] < rows) & (column[None, :] < width)  # (ROWS, COLUMNS)
    at_weight = weight + row.to(tl.int64)[:, None] * weight_stride + column[None, :]
    at_picks = picks + row.to(tl.int64)[:, None] * picks_stride + column[None, :]
    w = tl.load(at_weight, mask=inside, other=0.0)
    pivots = tl.load(U + column.to(tl.int64) * (U_stride + 1), mask=column < width, other=1.0)
    if CHOOSES:
        picked = tl.zeros((ROWS, COLUMNS), tl.int32)
    else:
        picked = tl.load(at_picks, mask=inside, other=0).to(tl.int32)
    errors = tl.zeros((ROWS, COLUMNS), w.dtype)
    row_of_U = U
    for j in range(0, width):
        if CHOOSES:  # noqa: SIM102 -- m is 0 otherwise
            if j % m == 0:
                keys = key(score(w, pivots[None, :], METRIC))
                rank = tl.zeros((ROWS, COLUMNS), tl.int32)
                for other in range(j, j + m):
                    k = _column(keys, column, other)[:, None]
                    rank += ((k < keys) | ((k == keys) & (other < column)[None, :])).to(tl.int32)
                group = ((column >= j) & (column < j + m))[None, :]
                picked = tl.where(group, (rank < n).to(tl.int32), picked)
        lost = _column(picked, column, j) > 0  # (ROWS,)
        pivot = tl.load(row_of_U + j)
        e = tl.where(lost, -divided(_column(w, column, j), pivot), 0.0)
        u = tl.load(row_of_U + column, mask=(column > j) & (column < width), other=0.0)
        w += e[:, None] * u[None, :]
        errors = tl.where((column == j)[None, :], e[:, None], errors)
        row_of_U += U_stride
    tl.store(at_weight, tl.where(picked > 0, 0.0, w), mask=inside)
    tl.store(E + row.to(tl.int64)[:, None] * width + column[None, :], errors, mask=inside)
    if CHOOSES:
        tl.store(at_picks, picked > 0, mask=inside)


@torch.library.custom_op("thanos::sweep", mutates_args={"weight", "picks"})
def sweep(weight: Tensor, picks: Tensor, U: Tensor, n: int, m: int) -> Tensor:
    """Remove the picks of a block column by column, overwrite its weights, return E_k, (c, B).

    weight  (c, B), float32 or float64, a row contiguous
    picks   (c, B), bool: read if m is 0, else overwritten by n of every group of m
    U       (B, B), the block's part of U, a row contiguous
    """
    rows, width = weight.shape
    E = torch.empty(rows, width, dtype=weight.dtype, device=weight.device)
    columns = triton.next_power_of_2(width)
    tile_rows = max(1, min(ENTRIES // columns, triton.next_power_of_2(rows)))
    with torch.cuda.device_of(weight):
        _sweep[(triton.cdiv(rows, tile_rows),)](
            weight, picks, U, E, rows, width, n, m, weight.stride(0), picks.stride(0), U.stride(0),
            METRIC=SPARSEGPT, CHOOSES=m > 0, ROWS=tile_rows, COLUMNS=columns, num_warps=1,
        )  # fmt: skip
    return E


@sweep.register_fake
def _(weight: Tensor, picks: Tensor, U: Tensor, n: int, m: int) -> Tensor:
    return weight.new_empty(weight.shape)


def launches() -> int:
    """Kernels that one call of `sweep` launches."""
    return 1
