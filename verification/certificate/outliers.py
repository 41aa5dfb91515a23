"""Which rows must be outliers, and that they are unchanged. Spec section 2."""

from dataclasses import dataclass

import numpy as np

from reference.patterns import Unstructured
from verification.certificate.case import Array, Indices, Mask, ScaledCase
from verification.certificate.report import Check
from verification.certificate.rules import MethodRules
from verification.thresholds import ROUNDINGS

FAR = 900  # powers of two from the threshold on, beyond which no row needs its own order


@dataclass(frozen=True)
class OutlierRows:
    """The rows taken to be outliers, by Ŵ where rounding leaves a choice, and by the judge alone.

    ordinary, own_ordinary  the other rows, in ascending order
    """

    ordinary: Indices
    own_ordinary: Indices
    checks: tuple[Check, ...]


def outlier_rows(case: ScaledCase, rules: MethodRules) -> OutlierRows:
    """The set follows from h_i within its rounding error and is never read off the mask.

    Where rounding leaves a choice, rows that are unchanged are taken to be the chosen ones.
    """
    rows = np.arange(len(case.W), like=case.W)
    count = 0 if isinstance(rules.pattern, Unstructured) else rules.pattern.outliers(len(rows))
    if count == 0:
        return OutlierRows(rows, rows, ())
    unchanged = case.unchanged.all(axis=1)
    h, margin = _scores(case, rules.ablation.outlier_score, count)
    surely = np.zeros_like(unchanged)
    if count < len(rows):
        surely = h - margin > np.sort(h + margin)[-count - 1]
    possible = h + margin >= np.sort(h - margin)[-count]
    chosen = np.lexsort((rows, -h, ~unchanged, ~possible, ~surely))
    own = np.lexsort((rows, -h))
    outliers = np.isin(rows, chosen[:count])
    changed = outliers & ~unchanged
    first = f"row {int(np.argmax(changed))}" if changed.any() else ""
    return OutlierRows(
        np.sort(chosen[count:]),
        np.sort(own[count:]),
        (
            Check("outliers", "section 2", int(changed.sum()), 0, first, f"{count} outlier rows"),
            Check("outlier margin", "section 2", _inversion(h, margin, outliers), None),
        ),
    )


def _scores(case: ScaledCase, outlier_score: str, count: int) -> tuple[Array, Array]:
    """What outlier rows have the most of, (c,), and how far rounding may move it, (c,).

    In units of the row at the threshold: others may be too large or too small for float64, and
    stay on their side.
    """
    G = case.G
    if outlier_score == "wanda":  # Σ_j W_ij² G_jj is W_i diag(G) W_iᵀ
        h = sizes = np.sum(case.W**2 * np.diag(G), axis=1)
    else:
        h = np.sum((case.W @ G) * case.W, axis=1)
        sizes = np.sum((np.abs(case.W) @ np.abs(G)) * np.abs(case.W), axis=1)
    exponents = np.where(h > 0, np.frexp(h)[1] + 2 * case.row_exponents, -(2**40))
    unit = np.sort(exponents)[-count]
    shift = np.clip(2 * case.row_exponents - unit, -FAR, FAR)
    return np.ldexp(h, shift), np.ldexp(ROUNDINGS * case.u * sizes, shift)


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
