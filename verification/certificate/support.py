"""Check 1: outlier rows, and zeros where the mask says so. Spec sections 2 and 5."""

import numpy as np

from reference.patterns import Unstructured
from verification.certificate.case import Array, Case, Mask
from verification.certificate.report import Check
from verification.certificate.rules import Rules
from verification.thresholds import ROUNDINGS


def same_bits(left: Array, right: Array) -> Mask:
    """Entries that are equal, the sign of zero included."""
    same: Mask = (left == right) & (np.signbit(left) == np.signbit(right))
    return same


def outlier_rows(case: Case, rules: Rules) -> tuple[Mask, list[Check]]:
    """Which rows must be outliers, (c,), and the check that they are unchanged.

    The set follows from h_i within its rounding error and is never read off the mask. Where
    rounding leaves a choice, rows that are unchanged are taken to be the chosen ones.
    """
    rows = len(case.W)
    outliers = np.zeros(rows, dtype=bool)
    count = 0 if isinstance(rules.pattern, Unstructured) else rules.pattern.outliers(rows)
    if count == 0:
        return outliers, []
    unchanged = same_bits(case.W, case.pruned).all(axis=1)
    h, margin = _outlier_scores(case, rules.ablation.outlier_score)
    if count == rows:
        outliers[:] = True
    else:
        surely = h - margin > np.sort(h + margin)[-count - 1]
        possible = h + margin >= np.sort(h - margin)[-count]
        by_choice = np.lexsort((np.arange(rows), -h, ~unchanged, ~possible, ~surely))
        outliers[by_choice[:count]] = True
    changed = outliers & ~unchanged
    first = f"row {int(np.argmax(changed))}" if changed.any() else ""
    check = Check("outliers", "section 2", int(changed.sum()), 0, first, f"{count} outlier rows")
    close = Check("outlier margin", "section 2", _inversion(h, margin, outliers), None)
    return outliers, [check, close]


def _outlier_scores(case: Case, outlier_score: str) -> tuple[Array, Array]:
    """What outlier rows have the most of, (c,), and how far rounding may move it, (c,)."""
    G = case.G
    if outlier_score == "wanda":  # Σ_j W_ij² G_jj is W_i diag(G) W_iᵀ
        h = sizes = np.sum(case.W**2 * np.diag(G), axis=1)
    else:
        h = np.sum((case.W @ G) * case.W, axis=1)
        sizes = np.sum((np.abs(case.W) @ np.abs(G)) * np.abs(case.W), axis=1)
    return h, ROUNDINGS * case.u * sizes


def _inversion(h: Array, margin: Array, outliers: Mask) -> float:
    """How far an outlier row lies below a row that is none, in units of both their margins."""
    low, high = np.flatnonzero(outliers), np.flatnonzero(~outliers)
    if not len(low) or not len(high):
        return 0.0
    low = low[h[low] < h[high].max()]
    high = high[h[high] > h[low].min()] if len(low) else high
    gaps = np.maximum(h[high][:, None] - h[low][None, :], 0.0)
    bounds = margin[high][:, None] + margin[low][None, :]
    inversions = np.divide(gaps, bounds, out=np.zeros_like(gaps), where=gaps > 0)
    return float(inversions.max(initial=0.0))


def zeros(case: Case, mask: Mask) -> Check:
    """Every removed weight is +0.0."""
    wrong = mask & ~same_bits(case.pruned, np.zeros_like(case.pruned))
    return Check("zeros", "section 2", int(wrong.sum()), 0, first_place(wrong))


def kept(case: Case, mask: Mask) -> Check:
    """Magnitude and Wanda move nothing: kept weights are those of W, bit for bit."""
    wrong = ~mask & ~same_bits(case.pruned, case.W)
    return Check("kept", "section 6", int(wrong.sum()), 0, first_place(wrong))


def first_place(wrong: Mask) -> str:
    """Row and column of the first violation, for people."""
    if not wrong.any():
        return ""
    row, column = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    return f"first at row {row}, column {column}"
