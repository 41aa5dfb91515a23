"""The masked systems of all rows of a block, and its joint update, in one launch. Spec (6).

Mathematics. Row i loses the columns q. With R = U^T U of the block, its multipliers solve mu R_qq =
W_iq, and then E_i = -mu U^T and the new weights are W_i + E_i U, +0.0 on q. With s = 1 / sqrt(diag
R) and A = diag(s) R diag(s), which has a unit diagonal, x = mu / s solves x A_qq = (W_i s)_q.
Masking a vector before and after the product with A is the product with A_qq, so all rows of a tile
take a step of conjugate gradients as one product of matrices. (A^-1)_qq, masked out of the one
inverse in the same way, is the preconditioner.

Why it is equal to solving each system in float64: passes of conjugate gradients in the arithmetic
of the weights only make corrections. In between, the residual (W_i s)_q - (x A)_q is computed in
float64 from a float64 A, with x summed up in float64, and the passes go on until its norm is at
most `target` times that of the right side, or the passes are used up. The last residual therefore
is a residual of float64, and whatever the steps before it rounded, it bounds the error: a row
counts as unfinished unless it is small enough. E_i is made in float64 as well, because digits of mu
cancel in it.

Layout. A program holds ROWS rows by COLUMNS columns of every vector in registers. A product needs
its left side by columns, which registers cannot give, so vectors go through a scratch matrix that
the program alone reads, and which the caches hold. A and A^-1 stream through shared memory, TILE of
their rows at a time: 128 KB in float32 at B = 128, which the L2 cache of a card holds for all
programs. Products are "ieee": no TF32.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

# The widest block: its vectors must fit into the registers of a program.
WIDEST = 256
TILE = 16
WARPS = 8
ENTRIES = 4096  # of one vector of a program: 32 rows at B = 128
PASSES, STEPS = 4, 60
REDUCTION = 1e-4  # of the residual, by one pass


@triton.jit
def _product(vectors, matrix, row, column, rows, width, across, down, total, TILE: tl.constexpr):
    """Total + V M for a tile of rows: V (rows, width) row-major, M (width, width).

    across, down  the strides of M from column to column and from row to row
    """
    for first in range(0, width, TILE):
        k = first + tl.arange(0, TILE)
        v = tl.load(
            vectors + row.to(tl.int64)[:, None] * width + k[None, :],
            mask=(row[:, None] < rows) & (k[None, :] < width),
            other=0.0,
        )  # (ROWS, TILE)
        part = tl.load(
            matrix + k.to(tl.int64)[:, None] * down + column[None, :] * across,
            mask=(k[:, None] < width) & (column[None, :] < width),
            other=0.0,
        )  # (TILE, COLUMNS)
        total = tl.dot(
            v, part.to(v.dtype), total, input_precision="ieee", out_dtype=vectors.dtype.element_ty
        )
    return total


@triton.jit
def _norms(rows):
    """The norm of every row, (ROWS,)."""
    return tl.sqrt(tl.sum(rows * rows, 1))


@triton.jit
def _update(
    weight, picks, U, scale, exact, rounded, inverse, E, vectors, other_vectors, solutions,
    unfinished, steps_of_block, rows, width, weight_stride, picks_stride, U_stride, shared_stride,
    target, reduction, TINY: tl.constexpr, PASSES: tl.constexpr, STEPS: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """All of a tile of rows: solve its systems, store E, overwrite the weights."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    inside = (row[:, None] < rows) & (column[None, :] < width)  # (ROWS, COLUMNS)
    at = row.to(tl.int64)[:, None] * width + column[None, :]  # in the scratch matrices and E
    at_weight = weight + row.to(tl.int64)[:, None] * weight_stride + column[None, :]
    at_picks = picks + row.to(tl.int64)[:, None] * picks_stride + column[None, :]
    w = tl.load(at_weight, mask=inside, other=0.0)
    picked = tl.load(at_picks, mask=inside, other=0).to(tl.int1)
    s = tl.load(scale + column, mask=column < width, other=0.0)  # (COLUMNS,) float64
    right = tl.where(picked, w.to(tl.float64) * s[None, :], 0.0)
    nothing = tl.zeros((ROWS, COLUMNS), w.dtype)
    nothing_exact = tl.zeros((ROWS, COLUMNS), tl.float64)

    solution, left = nothing_exact, right  # x, and its residual
    norms = _norms(right)
    wanted = target * norms
    working = wanted > 0  # (ROWS,)
    passes, steps = 0, 0
    while (passes < PASSES) & (tl.sum(working.to(tl.int32), 0) > 0):
        # One pass of conjugate gradients. Rows that are done have a residual of 0 and stand still.
        residual = tl.where(working[:, None], left, 0.0).to(w.dtype)
        goal = tl.maximum(reduction * norms, wanted / 2).to(w.dtype)
        move = nothing
        tl.store(vectors + at, residual, mask=inside)
        tl.debug_barrier()
        product = _product(
            vectors, inverse, row, column, rows, width, 1, shared_stride, nothing, TILE
        )
        direction = tl.where(picked, product, 0.0)
        slope = tl.sum(residual * direction, 1)
        # Written so that NaN counts as not done.
        going = tl.sum((working & ((_norms(residual) <= goal) == 0)).to(tl.int32), 0)
        taken = 0
        while (taken < STEPS) & (going > 0):
            tl.store(other_vectors + at, direction, mask=inside)
            tl.debug_barrier()
            product = _product(
                other_vectors, rounded, row, column, rows, width, 1, shared_stride, nothing, TILE
            )
            curvature = tl.sum(direction * product, 1)
            length = slope / tl.maximum(curvature, TINY)
            move += length[:, None] * direction
            residual -= length[:, None] * tl.where(picked, product, 0.0)
            tl.store(vectors + at, residual, mask=inside)
            tl.debug_barrier()
            product = _product(
                vectors, inverse, row, column, rows, width, 1, shared_stride, nothing, TILE
            )
            product = tl.where(picked, product, 0.0)
            previous = tl.maximum(slope, TINY)
            slope = tl.sum(residual * product, 1)
            direction = product + (slope / previous)[:, None] * direction
            going = tl.sum((working & ((_norms(residual) <= goal) == 0)).to(tl.int32), 0)
            taken += 1
        steps += taken
        # The residual anew, in float64.
        solution += move.to(tl.float64)
        tl.store(solutions + at, solution, mask=inside)
        tl.debug_barrier()
        exact_product = _product(
            solutions, exact, row, column, rows, width, 1, shared_stride, nothing_exact, TILE
        )
        left = tl.where(picked, right - exact_product, 0.0)
        norms = _norms(left)
        working = working & ((norms <= wanted) == 0)
        passes += 1
    tl.atomic_add(unfinished, tl.sum(working.to(tl.int64), 0), sem="relaxed")
    tl.atomic_max(steps_of_block, steps, sem="relaxed")

    # E = -mu U^T, and W + E U.
    tl.debug_barrier()
    tl.store(solutions + at, solution * s[None, :], mask=inside)
    tl.debug_barrier()
    mu_U = _product(solutions, U, row, column, rows, width, U_stride, 1, nothing_exact, TILE)
    tl.store(E + at, (-mu_U).to(w.dtype), mask=inside)
    tl.debug_barrier()
    moved = _product(E, U, row, column, rows, width, 1, U_stride, nothing, TILE)
    tl.store(at_weight, tl.where(picked, 0.0, w + moved), mask=inside)


@torch.library.custom_op("thanos::joint_update", mutates_args={"weight", "unfinished", "steps"})
def joint_update(
    weight: Tensor, picks: Tensor, U: Tensor, scale: Tensor, exact: Tensor, rounded: Tensor,
    inverse: Tensor, target: float, unfinished: Tensor, steps: Tensor,
) -> Tensor:  # fmt: skip
    """Remove the picks of a block by (6), overwrite its weights, and return E_k, (c, B).

    weight      (c, B), float32 or float64, a row contiguous
    picks       (c, B), bool
    U           (B, B), the block's part of U, a row contiguous
    scale       (B,), 1 / sqrt(diag R), float64, contiguous
    exact       (B, B), R scaled, float64; `rounded` is the same in the arithmetic of the weights,
                and `inverse` its inverse in that arithmetic; all three with the same strides
    target      norm that a residual must reach, relative to its right side
    unfinished  (1,), int64: rows that did not reach it are added
    steps       (1,), int32: the steps of the rows that took most, if that is more
    """
    rows, width = weight.shape
    E = torch.empty(rows, width, dtype=weight.dtype, device=weight.device)
    vectors, others = torch.empty_like(E), torch.empty_like(E)
    solutions = torch.empty(rows, width, dtype=torch.float64, device=weight.device)
    columns = max(16, triton.next_power_of_2(width))
    tile_rows = max(16, ENTRIES // columns // (weight.element_size() // 4))
    with torch.cuda.device_of(weight):
        _update[(triton.cdiv(rows, tile_rows),)](
            weight, picks, U, scale, exact, rounded, inverse, E, vectors, others, solutions,
            unfinished, steps, rows, width, weight.stride(0), picks.stride(0), U.stride(0),
            exact.stride(0), target, REDUCTION, TINY=torch.finfo(weight.dtype).tiny, PASSES=PASSES,
            STEPS=STEPS, ROWS=tile_rows, COLUMNS=columns, TILE=TILE, num_warps=WARPS,
        )  # fmt: skip
    return E


@joint_update.register_fake
def _(weight: Tensor, *others: object) -> Tensor:
    return weight.new_empty(weight.shape)


def launches() -> int:
    """Kernels that one call of `joint_update` launches."""
    return 1
