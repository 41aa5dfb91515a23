"""The masked systems of a block, direct, in float64, many rows at a time. Spec (6)."""

import numpy as np

from verification.certificate.case import Array, Indices, Mask
from verification.certificate.device_array import DeviceArray, pieces
from verification.certificate.threads import in_parallel

NUMBERS = 2**18  # of the matrices that are solved at one time: 2 MB for each thread


def best_moves(start: Array, mask: Mask, M_kk: Array, U_kk: Array) -> Array:
    """How the weights of a block move: those of the mask to 0, the kept ones to their best.

    start  (rows, width), the block's weights before
    mask   (rows, width), True where a weight goes

    The move δ of a row minimises δ C δᵀ, C = M_kkᵀ M_kk, with δ_q = −W_q: the later columns follow
    at their best. With few picks q it is −μ R with μ R_qq = W_q, R = C⁻¹; with few kept weights F
    it is δ_F C_FF = W_q C_qF. Either is solved directly.
    """
    moves = np.zeros_like(start)
    picks = np.count_nonzero(mask, axis=1)
    few = np.flatnonzero((picks > 0) & (2 * picks <= mask.shape[1]))  # no pick moves nothing
    many = np.flatnonzero(2 * picks > mask.shape[1])
    if len(few):
        R = U_kk.T @ U_kk
        moves[few] = -solve_picked(R, mask[few], start[few] * mask[few]) @ R
    if len(many):
        C = M_kk.T @ M_kk
        moves[many] = solve_picked(C, ~mask[many], (start[many] * mask[many]) @ C)
    return np.where(mask, -start, moves)


def solve_picked(A: Array, picks: Mask, right: Array) -> Array:
    """The x, (rows, width), 0 outside of `picks`, with x A = `right` at each row's picks.

    A  (width, width), symmetric and positive definite
    """
    if (picks == picks[0]).all():  # whole columns: one system for all rows
        x = np.zeros_like(right)
        q = np.flatnonzero(picks[0])
        x[:, q] = np.linalg.solve(A[np.ix_(q, q)], right[:, q].T).T
        return x
    counts = picks.sum(axis=1)
    order = np.argsort(counts, kind="stable")  # neighbours have systems of like size
    x = np.zeros_like(right)

    def solve(rows: Indices) -> None:
        x[rows] = _solve_padded(A, picks[rows], right[rows], counts[rows])

    parts, end = [], len(order)
    while end and counts[order[end - 1]]:
        several = max(1, pieces(A, NUMBERS) // int(counts[order[end - 1]]) ** 2)
        parts.append(order[max(0, end - several) : end])
        end -= len(parts[-1])
    in_parallel(solve, parts, isinstance(A, DeviceArray))
    return x


def _solve_padded(A: Array, picks: Mask, right: Array, counts: Indices) -> Array:
    """Systems of one size: smaller ones are padded with rows of the identity and zeros."""
    width, size = len(A), int(counts.max())
    padding = size - int(counts.min())
    padded = np.eye(width + padding, like=A)
    padded[:width, :width] = A
    picked = np.argsort(~picks, axis=1, kind="stable")[:, :size]
    position = np.arange(size) - counts[:, None]  # negative for picks, else that of the padding
    picked = np.where(position < 0, picked, width + position)
    # Places in the flattened matrix: half the time of two indices.
    systems = padded.take(picked[:, :, None] * len(padded) + picked[:, None, :])
    values = np.zeros((len(right), width + padding), like=A)
    values[:, :width] = right
    sides = np.take_along_axis(values, picked, axis=1)
    solution = np.zeros_like(values)
    np.put_along_axis(solution, picked, np.linalg.solve(systems, sides[:, :, None])[:, :, 0], 1)
    return solution[:, :width]
