"""Checks of single updates, (7), (8) and losses: they name bugs in rows that hardly lose anything.

They are about P, the result before rounding to its storage type. What they allow for rounding
comes from W and T, never from P: what is far off cannot excuse itself. T2, T4, T11.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reference.patterns import column_blocks
from verification.certificate.case import (
    Array,
    Indices,
    Mask,
    ScaledCase,
    row_squares,
    times_lower,
    times_lower_transposed,
)
from verification.certificate.device_array import DeviceArray
from verification.certificate.report import Check
from verification.certificate.rules import MethodRules
from verification.thresholds import ROUNDINGS, UNIT_ROUNDOFF, cosine_threshold, factor_error


@dataclass(frozen=True)
class Moved:
    """A result and the exact replay of its masks, both (c, b) and in the units of the case.

    E     (P − W) Mᵀ
    T     the replay
    mask  True where a weight was removed
    """

    case: ScaledCase
    rules: MethodRules
    E: Array
    T: Array
    mask: Mask


def check_updates(moved: Moved, decides: bool) -> tuple[Array, list[Check]]:
    """Optimality, T2: the cosine (7), which decides, and the excess (8), which is reported.

    A gradient is held against what its row has lost up to the end of the block, not in the block
    alone: in a block of few columns a row may lose nothing, and its gradient, all rounding, would
    be held against rounding. In the first block the two are the same.

    The floor is subtracted only in rows that would be above the threshold without it.

    decides  False for a narrower storage type: clipping entry by entry leaves gradients of its own

    Returns the excess of every row, squared, (c,), and the checks.
    """
    case, rules = moved.case, moved.rules
    allowed = cosine_threshold(case.u, case.condition)
    worst, where, ratio = 0.0, "", 0.0
    lost = np.zeros((len(case.W), 1), like=case.W)  # squared, by the columns before the block
    excess = np.zeros(len(case.W), like=case.W)
    for j1, j2 in column_blocks(rules.columns, rules.block):
        gradient, lengths = _gradients(moved, lost, j1, j2)
        U_kk = case.U[j1:j2, j1:j2]
        away = times_lower(gradient, U_kk.T) if rules.joint else gradient * np.diag(U_kk)
        excess += row_squares(away)
        lost += row_squares(moved.E[:, j1:j2])[:, None]
        np.abs(gradient, out=gradient)
        bounds = allowed * lengths
        above = np.flatnonzero(~(gradient <= bounds).all(axis=1))
        if len(above):
            floor = _floor(moved, above, j1, j2)
            of_floor = over(gradient[above], floor + bounds[above]).max()
            ratio = float(np.maximum(ratio, of_floor))
            gradient[above] = np.maximum(gradient[above] - floor, 0.0)
        cosine = over(gradient, lengths)
        row, column = np.unravel_index(int(np.argmax(cosine)), cosine.shape)  # the first NaN
        if not (cosine[row, column] <= worst or math.isnan(worst)):
            worst, where = float(cosine[row, column]), f"worst at row {row}, column {j1 + column}"
    share = float(over(*case.totals(excess, lost[:, 0])))
    ratio = float(np.maximum(ratio, worst / allowed))
    return excess, [
        Check("updates", "T2, (7)", worst, allowed if decides else None, where),
        Check("gradient", "T2", ratio, None, "", "in units of what rounding explains"),
        Check("excess", "T11, (8)", share, None, "", "share of the loss that could be saved"),
    ]


def not_finite(reported: Array) -> list[Check]:
    """The failed check of block losses that are NaN or infinite, if there is one."""
    wrong = np.flatnonzero(~np.isfinite(reported))
    if not len(wrong):
        return []
    k = int(wrong[0])
    note = f"block losses must be finite, got {reported.flat[k]}"
    return [Check("losses", "T4", np.inf, 1.0, f"first in block {k}", note)]


def check_losses(moved: Moved, reported: Array, storage: str | None) -> Check:
    """Reported block losses equal ‖E_k‖², T4, up to the rounding of right code.

    storage  a narrower type from which they may have been calculated
    """
    case, rules = moved.case, moved.rules
    blocks = list(column_blocks(rules.columns, rules.block))
    if reported.shape != (len(blocks),):
        note = f"{len(blocks)} losses expected, got the shape {reported.shape}"
        return Check("losses", "T4", np.inf, 1.0, "", note)
    rows = np.flatnonzero(moved.mask.any(axis=1))  # the others lose nothing, however large they are
    scales = case.row_scales(rows)[:, 0] ** 2
    unit = int(2 * case.row_exponents[rows].max(initial=0 if not len(rows) else -5000))
    u = ROUNDINGS * case.u + (UNIT_ROUNDOFF[storage] if storage else 0.0)
    both, of_D = np.abs(case.W) + np.abs(moved.T), np.abs(moved.T - case.W)
    M_sizes = _sizes(case.M)
    rounding_of_E = u * times_lower_transposed(_sizes(both), M_sizes)
    # Factorising H makes a relative error of some u in |M|ᵀ |M|, and D H Dᵀ feels it.
    products = row_squares(times_lower_transposed(_sizes(of_D), M_sizes))
    of_the_factor = ROUNDINGS * case.u * float(scales @ products[rows])
    relative = factor_error(case.condition) if rules.moves else 0.0  # D itself is exact
    ratios, losses = np.zeros(len(blocks)), np.zeros(len(blocks))
    for k, (j1, j2) in enumerate(blocks):
        E, a = moved.E[rows, j1:j2], rounding_of_E[rows, j1:j2].astype(np.float64)
        loss = losses[k] = float(scales @ row_squares(E))
        allowed = float(scales @ np.sum(2 * np.abs(E) * a + a**2, axis=1))
        allowed += of_the_factor + relative * loss
        difference = np.abs(np.ldexp(reported[k], -unit - case.gram_exponent) - loss)
        # A sum of squares is never negative, whatever rounding may do to it.
        ratios[k] = np.inf if reported[k] < 0 else over(difference, allowed)
    k = int(np.argmax(ratios))  # the first NaN, if there is one
    loss = float(np.ldexp(losses[k], unit + case.gram_exponent))
    where = f"worst in block {k}: {reported[k]:.6g}, it is {loss:.6g}" if ratios[k] else ""
    return Check("losses", "T4", float(ratios[k]), 1.0, where)


def _sizes(matrix: Array) -> NDArray[np.float32]:
    """Sizes of numbers in float32: enough for that of an error, and twice as fast to multiply."""
    return np.abs(matrix.astype(np.float32))


def over(error: ArrayLike, bound: ArrayLike) -> Array:
    """A ratio, entry by entry, where 0/0 is 0: nothing is wrong where nothing is lost."""
    if not isinstance(error, DeviceArray):
        error, bound = np.asarray(error), np.asarray(bound)
    ratio: Array = np.where(error > 0, np.inf, np.abs(error))  # 0, or NaN
    np.divide(error, bound, out=ratio, where=bound != 0)
    return ratio


def _gradients(moved: Moved, lost: Array, j1: int, j2: int) -> tuple[Array, Array]:
    """G_k on kept entries, and the lengths that (7) divides by; (c, j2 - j1)."""
    E, M_kk = moved.E[:, j1:j2], moved.case.M[j1:j2, j1:j2]
    if moved.rules.joint:
        gradient = times_lower(E, M_kk)
        row_lengths = np.sqrt(lost + row_squares(E)[:, None])
        lengths = row_lengths * np.linalg.norm(M_kk, axis=0)
    else:  # blocks of width 1: M_kk is a number
        pivots = np.diag(M_kk)
        gradient, lengths = E * pivots, np.sqrt(lost + np.cumsum(E**2, axis=1)) * pivots
    gradient[moved.mask[:, j1:j2]] = 0.0
    return gradient, lengths


def _floor(moved: Moved, rows: Indices, j1: int, j2: int) -> Array:
    """The rounding floor τ of the gradients of some rows, (rows, j2 - j1)."""
    M_k = np.abs(moved.case.M[j1:j2, :j2])
    sizes = np.abs(moved.case.W[rows, :j2]) + np.abs(moved.T[rows, :j2])
    rounding = ROUNDINGS * moved.case.u * (sizes @ M_k.T)
    M_kk = M_k[:, j1:]
    floor: Array = rounding @ M_kk if moved.rules.joint else rounding * np.diag(M_kk)
    return floor
