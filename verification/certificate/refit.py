"""The refit of section 7: same support, not worse, and how far from the best. T10, T11."""

import math
from dataclasses import dataclass

import numpy as np

from verification.certificate.case import Array, same_bits, times_lower_transposed
from verification.certificate.report import Check, first_place
from verification.certificate.updates import Moved, over
from verification.thresholds import REFIT, REPLAY_EXCESS, ROUNDINGS


@dataclass(frozen=True)
class Refit:
    """A refitted weight.

    weight     (c, b), in the units of the case
    u_storage  unit roundoff of a narrower type that it was rounded to, else 0
    """

    weight: Array
    u_storage: float


def check_refit(moved: Moved, before: float, energy: float, refit: Refit) -> list[Check]:
    """A refit against the replay of what it started from.

    before  f of that replay, in units of the largest row's
    energy  Σ N_i of T13, in the same
    """
    case, mask, refitted = moved.case, moved.mask, refit.weight
    if not np.isfinite(refitted).all():
        return [Check("refit", "T10", np.nan, 0, "", "refitted_weight is not finite")]
    untouched = ~mask.any(axis=1, keepdims=True)
    wrong = (mask & ~same_bits(refitted, 0.0)) | (untouched & ~same_bits(refitted, case.pruned))
    E = times_lower_transposed(refitted - case.W, case.M)
    scales = case.row_scales(np.arange(len(case.W)))
    after = float(np.sum((scales * E) ** 2))
    # Rounding errors of single entries have either sign: they add up in quadrature.
    spread = math.sqrt((ROUNDINGS * case.u) ** 2 + refit.u_storage**2)
    allowed = math.sqrt(REPLAY_EXCESS * before) + spread * math.sqrt(energy)
    rise = np.maximum(math.sqrt(after) - math.sqrt(before), 0.0)  # keeps NaN
    ratio = float(over(rise, np.asarray(allowed)))
    lacking = np.where(mask, 0.0, E @ case.M)  # half the gradient, on kept weights
    gap = float(np.sum((scales * (lacking @ case.U.T)) ** 2))
    saved = 1 - after / before if before else 0.0
    share = gap / after if after else (0.0 if gap == 0 else np.inf)
    return [
        Check("support", "section 7", int(wrong.sum()), 0, first_place(wrong)),
        Check("refit", "T10", ratio, REFIT.value, "", f"{saved:.1%} of f saved"),
        Check("gap", "T11", share, None, "", "share of f above the least for the mask, at most"),
    ]
