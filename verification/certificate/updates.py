"""Checks of single updates, (7), (8) and losses: they name bugs in rows that hardly lose anything.

They are about P, the result before rounding to its storage type. What they allow for rounding
comes from W and T, never from P: what is far off cannot excuse itself. T2, T4, T8.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from reference.patterns import column_blocks
from verification.certificate.case import Array, Case, Mask
from verification.certificate.report import Check
from verification.certificate.rules import Rules
from verification.thresholds import ROUNDINGS, cosine_threshold, factor_error

EXACT_ROWS = 4  # rows of a block whose excess is computed exactly; T11 bounds the others


@dataclass(frozen=True)
class Moved:
    """A result and the exact replay of its masks, both (c, b) and in the units of the case.

    E          (P − W) Mᵀ
    T          the replay
    mask       True where a weight was removed
    u_storage  unit roundoff of a narrower type that P was rounded to afterwards, else 0
    """

    case: Case
    rules: Rules
    E: Array
    T: Array
    mask: Mask
    u_storage: float = 0.0

    def rounding(self, rows: Any, j1: int, j2: int) -> Array:
        """A bound of the rounding errors that right code makes in E, (rows, j2 - j1)."""
        sizes = np.abs(self.case.W[rows, :j2]) + np.abs(self.T[rows, :j2])
        bound = sizes @ np.abs(self.case.M[j1:j2, :j2]).T
        return np.asarray(ROUNDINGS * self.case.u * bound)


def check_updates(moved: Moved) -> list[Check]:
    """Optimality, T2: the cosine (7), which decides, and the excess (8), which is reported.

    A gradient is held against what its row has lost up to the end of the block, not in the block
    alone: in a block of few columns a row may lose nothing, and its gradient, all rounding, would
    be held against rounding. In the first block the two are the same.

    The floor is subtracted only in rows that would be above the threshold without it.
    """
    case, rules = moved.case, moved.rules
    allowed = cosine_threshold(case.u, case.condition)
    worst, where, ratio, excess = 0.0, "", 0.0, 0.0
    lost = np.zeros((len(case.W), 1))  # squared, by the columns before the block
    for j1, j2 in column_blocks(rules.columns, rules.block):
        gradient, lengths = _gradients(moved, lost, j1, j2)
        lost += np.sum(moved.E[:, j1:j2] ** 2, axis=1, keepdims=True)
        above = np.flatnonzero(~(gradient <= allowed * lengths).all(axis=1))
        within = over(gradient, lengths)
        within[above] = 0.0
        ratio = max(ratio, float(within.max()) / allowed)
        if len(above):
            floor = _floor(moved, above, j1, j2)
            within = over(gradient[above], floor + allowed * lengths[above])
            ratio = float(np.maximum(ratio, within.max()))
            gradient[above] = np.maximum(gradient[above] - floor, 0.0)
        cosine = over(gradient, lengths)
        row, column = np.unravel_index(int(np.argmax(cosine)), cosine.shape)
        if not cosine[row, column] <= worst and not np.isnan(worst):
            worst = float(cosine[row, column])
            where = f"worst at row {row}, column {j1 + column}"
        excess += _excess(moved, gradient, j1, j2)
    loss = float(np.sum(moved.E**2))
    share = excess / loss if loss else (0.0 if excess == 0 else np.inf)
    return [
        Check("updates", "T2, (7)", worst, allowed, where),
        Check("gradient", "T2", ratio, None, "", "in units of what rounding explains"),
        Check("excess", "T8, (8)", share, None, "", "share of the loss that could be saved"),
    ]


def check_losses(moved: Moved, block_losses: Any) -> Check:
    """Reported block losses equal ‖E_k‖², T4, up to the rounding of right code."""
    case, rules = moved.case, moved.rules
    reported = np.asarray(block_losses, dtype=np.float64)
    blocks = list(column_blocks(rules.columns, rules.block))
    if reported.shape != (len(blocks),):
        note = f"{len(blocks)} losses expected, got the shape {reported.shape}"
        return Check("losses", "T4", np.inf, 1.0, "", note)
    rows = np.arange(len(case.W))
    scales = case.row_scales(rows)
    unit = int(2 * case.row_exponents.max() + case.gram_exponent)
    # Factorising H makes a relative error of some u in |M|ᵀ |M|, and D H Dᵀ feels it.
    of_the_factor = ROUNDINGS * case.u * float(np.sum((scales * _sizes_of_D(moved)) ** 2))
    relative = factor_error(case.condition)
    widening = 1 + moved.u_storage / (ROUNDINGS * case.u)
    ratios = np.zeros(len(blocks))
    for k, (j1, j2) in enumerate(blocks):
        E = scales * moved.E[:, j1:j2]
        rounding = scales * widening * moved.rounding(slice(None), j1, j2)
        loss = float(np.sum(E**2))
        allowed = float(np.sum(2 * np.abs(E) * rounding + rounding**2))
        allowed += of_the_factor + relative * loss
        difference = abs(float(np.ldexp(reported[k], -unit)) - loss)
        ratios[k] = difference / allowed if allowed else (0.0 if difference == 0 else np.inf)
    k = int(np.argmax(ratios))  # of the first NaN, if there is one
    return Check("losses", "T4", float(ratios[k]), 1.0, f"worst in block {k}" if ratios[k] else "")


def _sizes_of_D(moved: Moved) -> Array:
    """|T − W| |M|ᵀ, (c, b)."""
    return np.asarray(np.abs(moved.T - moved.case.W) @ np.abs(moved.case.M).T)


def over(error: Array, bound: Array) -> Array:
    """A ratio, entry by entry, where 0/0 is 0: nothing is wrong where nothing is lost."""
    return np.divide(error, bound, out=np.zeros_like(error), where=(error != 0) | (bound != 0))


def _gradients(moved: Moved, lost: Array, j1: int, j2: int) -> tuple[Array, Array]:
    """|G| on kept entries, and the lengths that (7) divides by; (c, j2 - j1)."""
    E, M_kk = moved.E[:, j1:j2], moved.case.M[j1:j2, j1:j2]
    if moved.rules.joint:
        gradient = np.abs(E @ M_kk)
        row_lengths = np.sqrt(lost + np.sum(E**2, axis=1, keepdims=True))
        lengths = row_lengths * np.linalg.norm(M_kk, axis=0)
    else:  # blocks of width 1: M_kk is a number
        pivots = np.diag(M_kk)
        gradient, lengths = np.abs(E) * pivots, np.sqrt(lost + np.cumsum(E**2, axis=1)) * pivots
    gradient[moved.mask[:, j1:j2]] = 0.0
    return gradient, lengths


def _floor(moved: Moved, rows: Any, j1: int, j2: int) -> Array:
    """The rounding floor τ of the gradients of some rows, (rows, j2 - j1)."""
    M_kk = moved.case.M[j1:j2, j1:j2]
    rounding = moved.rounding(rows, j1, j2)
    return rounding @ np.abs(M_kk) if moved.rules.joint else rounding * np.diag(M_kk)


def _excess(moved: Moved, g: Array, j1: int, j2: int) -> float:
    """At most the loss that better kept weights of this block would save, T11."""
    squares = np.sum(g**2, axis=1)
    if not squares.any():
        return 0.0
    M_kk, U_kk = moved.case.M[j1:j2, j1:j2], moved.case.U[j1:j2, j1:j2]
    if not moved.rules.joint:
        return float(np.sum((g / np.diag(M_kk)) ** 2))
    worst = np.argsort(squares)[-EXACT_ROWS:]
    bounds = np.sum((g @ U_kk.T) ** 2, axis=1)
    bounds[worst] = 0.0
    return float(bounds.sum()) + sum(
        _exact_excess(M_kk, ~moved.mask[i, j1:j2], g[i]) for i in worst if squares[i] > 0
    )


def _exact_excess(M_kk: Array, kept: Mask, g: Array) -> float:
    """g_F (C_FF)⁻¹ g_Fᵀ with C = M_kkᵀ M_kk."""
    if not np.isfinite(g).all():
        return np.inf
    C_FF = M_kk[:, kept].T @ M_kk[:, kept]
    return float(g[kept] @ cho_solve(cho_factor(C_FF), g[kept]))
