"""The refit of section 7: same support, not worse, and how far from the best. T10, T11."""

from dataclasses import dataclass

import numpy as np

from verification.certificate.case import (
    Array,
    Mask,
    row_squares,
    times_lower,
    times_lower_transposed,
)
from verification.certificate.report import Check, first_place
from verification.certificate.storage import rounding_errors
from verification.certificate.updates import Moved, over
from verification.thresholds import REFIT, ROUNDINGS


@dataclass(frozen=True)
class Refit:
    """A refitted weight.

    weight     (c, b), in the units of the case
    zeros      where it is +0.0 as given
    unchanged  where it has the bits of Ŵ, as given, rounded to its storage type
    storage    the narrower type that it was rounded to, or None
    strangers  entries, as given, that are no numbers of that type
    """

    weight: Array
    zeros: Mask
    unchanged: Mask
    storage: str | None
    strangers: int


def check_refit(moved: Moved, energies: Array, refit: Refit) -> list[Check]:
    """A refit against what it started from, which T13 holds: no row may lose more. T10.

    energies  N_i of T13, (c,)
    """
    case, mask, refitted = moved.case, moved.mask, refit.weight
    if not np.isfinite(refitted).all():
        return [Check("refit", "T10", np.nan, 0, "", "refitted_weight is not finite")]
    touched = np.any(mask, axis=1)
    wrong = (mask & ~refit.zeros) | (~touched[:, None] & ~refit.unchanged)
    # Both in one way: where nothing differs, not even rounding does.
    before = row_squares(times_lower_transposed(case.pruned - case.W, case.M))
    E = times_lower_transposed(refitted - case.W, case.M)
    after = row_squares(E)
    # Rounding errors of single entries have either sign: they add up in quadrature.
    squares = (ROUNDINGS * case.u) ** 2 * energies
    if refit.storage:
        errors = rounding_errors(moved.T, refit.storage, case.row_exponents)
        squares += np.where(mask, 0.0, errors) ** 2 @ case.H_diagonal
    rise = np.maximum(np.sqrt(after) - np.sqrt(before), 0.0)  # keeps NaN
    rise[~touched] = 0.0  # they are rounded and no more, or `support` fails
    ratios = over(rise, np.sqrt(squares))
    row = int(np.argmax(ratios))
    lacking = np.where(mask, 0.0, times_lower(E, case.M))  # half the gradient, on kept weights
    gap, before_all, after_all = case.totals(
        row_squares(times_lower(lacking, case.U.T)), before, after
    )
    saved = 1 - after_all / before_all if before_all else 0.0
    note = f"{saved:.1%} of f saved" if saved > -1 else "f is more than twice as large"
    share = float(over(gap, after_all))
    where = f"worst in row {row}" if ratios[row] else ""
    return [
        Check("support", "section 7", int(wrong.sum()), 0, first_place(wrong)),
        Check("refit", "T10", float(ratios[row]), REFIT.value, where, note),
        Check("gap", "T11", share, None, "", "share of f above the least for the mask, at most"),
    ]
