"""Checks 3 and 4: the kept weights are the best ones, block by block. Spec T2, T4, T8."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import cho_factor, cho_solve

from reference.patterns import column_blocks
from verification.certificate.case import Array, Case, Mask, magnitudes, times_lower_transposed
from verification.certificate.report import Check
from verification.certificate.rules import Rules
from verification.thresholds import ROUNDINGS, cosine_threshold, factor_error

EXACT_ROWS = 4  # rows of a block whose excess is computed exactly; T8 bounds the others


def check_updates(case: Case, rules: Rules, mask: Mask) -> list[Check]:
    """Optimality, T2: the cosine (7), which decides, and the excess (8), which is reported.

    A gradient is held against what its row has lost up to the end of the block, not in the block
    alone: in a block of few columns a row may lose nothing, and its gradient, all rounding, would
    be held against rounding. In the first block the two are the same.
    """
    allowed = cosine_threshold(case.u, case.condition)
    worst, where, ratio, excess = 0.0, "", 0.0, 0.0
    lost = np.zeros((len(case.W), 1))  # squared, by the columns before the block
    for j1, j2 in column_blocks(rules.columns, rules.block):
        gradient, floor, lengths = _gradients(case, mask, lost, j1, j2, rules.joint)
        lost += np.sum(case.E[:, j1:j2] ** 2, axis=1, keepdims=True)
        g = np.maximum(gradient - floor, 0.0)
        cosine = _over(g, lengths)
        row, column = np.unravel_index(int(np.argmax(cosine)), cosine.shape)
        if not cosine[row, column] <= worst:
            worst = float(cosine[row, column])
            where = f"worst at row {row}, column {j1 + column}"
        ratio = max(ratio, float(_over(gradient, floor + allowed * lengths).max()))
        excess += _excess(case, mask, g, j1, j2, rules.joint)
    loss = float(np.sum(case.E**2))
    share = excess / loss if loss else (0.0 if excess == 0 else np.inf)
    return [
        Check("updates", "T2, (7)", worst, allowed, where),
        Check("gradient", "T2", ratio, None, "", "in units of what rounding explains"),
        Check("excess", "T8, (8)", share, None, "", "share of the loss that could be saved"),
    ]


def _over(error: Array, bound: Array) -> Array:
    """A ratio, where 0/0 is 0: a row that loses nothing and has no gradient is at its best."""
    return np.divide(error, bound, out=np.zeros_like(error), where=(error != 0) | (bound != 0))


def check_losses(case: Case, rules: Rules, block_losses: ArrayLike) -> Check:
    """Reported block losses equal ‖E_k‖², T4, up to the rounding of right code."""
    reported = np.asarray(block_losses, dtype=np.float64)
    blocks = list(column_blocks(rules.columns, rules.block))
    if reported.shape != (len(blocks),):
        note = f"{len(blocks)} losses expected, got the shape {reported.shape}"
        return Check("losses", "T4", np.inf, 1.0, "", note)
    # Factorising H makes a relative error of some u in |M|ᵀ |M|, and D H Dᵀ feels it.
    D_sizes = times_lower_transposed(magnitudes(case.pruned - case.W), magnitudes(case.M))
    of_the_factor = ROUNDINGS * case.u * float(np.sum(D_sizes.astype(np.float64) ** 2))
    relative = factor_error(case.condition)
    worst, where = 0.0, ""
    for k, (j1, j2) in enumerate(blocks):
        E, rounding = case.E[:, j1:j2], case.E_rounding[:, j1:j2]
        loss = float(np.sum(E**2))
        allowed = float(np.sum(2 * np.abs(E) * rounding + rounding**2))
        allowed += of_the_factor + relative * loss
        difference = abs(float(np.ldexp(reported[k], -case.loss_exponent)) - loss)
        ratio = difference / allowed if allowed else (0.0 if difference == 0 else np.inf)
        if not ratio <= worst:
            worst, where = ratio, f"worst in block {k}"
    return Check("losses", "T4", worst, 1.0, where)


def _gradients(
    case: Case, mask: Mask, lost: Array, j1: int, j2: int, joint: bool
) -> tuple[Array, Array, Array]:
    """|G| on kept entries, its rounding floor, the lengths that (7) divides by; (c, j2 - j1)."""
    E, rounding = case.E[:, j1:j2], case.E_rounding[:, j1:j2]
    M_kk = case.M[j1:j2, j1:j2]
    if joint:
        gradient, floor = np.abs(E @ M_kk), rounding @ np.abs(M_kk)
        row_lengths = np.sqrt(lost + np.sum(E**2, axis=1, keepdims=True))
        lengths = row_lengths * np.linalg.norm(M_kk, axis=0)
    else:  # blocks of width 1: M_kk is a number
        pivots = np.diag(M_kk)
        gradient, floor = np.abs(E) * pivots, rounding * pivots
        lengths = np.sqrt(lost + np.cumsum(E**2, axis=1)) * pivots
    return np.where(mask[:, j1:j2], 0.0, gradient), floor, lengths


def _excess(case: Case, mask: Mask, g: Array, j1: int, j2: int, joint: bool) -> float:
    """At most the loss that better kept weights of this block would save, T8."""
    squares = np.sum(g**2, axis=1)
    if not squares.any():
        return 0.0
    M_kk = case.M[j1:j2, j1:j2]
    if not joint:
        return float(np.sum((g / np.diag(M_kk)) ** 2))
    worst = np.argsort(squares)[-EXACT_ROWS:]
    rest = float(squares.sum() - squares[worst].sum()) / case.lam
    return rest + sum(_exact_excess(M_kk, ~mask[i, j1:j2], g[i]) for i in worst if squares[i] > 0)


def _exact_excess(M_kk: Array, kept: Mask, g: Array) -> float:
    """g_F (C_FF)⁻¹ g_Fᵀ with C = M_kkᵀ M_kk."""
    C_FF = M_kk[:, kept].T @ M_kk[:, kept]
    return float(g[kept] @ cho_solve(cho_factor(C_FF), g[kept]))
