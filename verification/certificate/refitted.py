"""The refit of section 7: same support, not worse. Spec T6, T10."""

import numpy as np

from verification.certificate.case import Array, Case, Mask
from verification.certificate.report import Check
from verification.certificate.support import first_place, same_bits
from verification.thresholds import REFIT


def check_refit(case: Case, mask: Mask, refitted: Array) -> list[Check]:
    """`refitted`, (c, b), in the units of the case, against the Ŵ that it started from."""
    if not np.isfinite(refitted).all():
        return [Check("refit", "T10", np.nan, 0, "", "refitted_weight is not finite")]
    untouched = ~mask.any(axis=1, keepdims=True)
    wrong = (mask & ~same_bits(refitted, np.zeros_like(refitted))) | (
        untouched & ~same_bits(refitted, case.pruned)
    )
    E = (refitted - case.W) @ case.M.T
    before, after = float(np.sum(case.E**2)), float(np.sum(E**2))
    # Rounding errors of single entries have either sign: they add up in quadrature.
    a = case.E_rounding
    rounding = float(2 * np.sqrt(np.sum((E * a) ** 2)) + np.sum(a**2))
    higher = max(after - before, 0.0)
    higher = higher / rounding if rounding else (np.inf if higher else 0.0)
    gradient = np.where(mask, 0.0, np.abs(E @ case.M))
    lengths = np.outer(np.linalg.norm(E, axis=1), np.linalg.norm(case.M, axis=0))
    cosine = np.divide(gradient, lengths, out=np.zeros_like(E), where=lengths > 0)
    saved = 1 - after / before if before else 0.0
    return [
        Check("support", "section 7", int(wrong.sum()), 0, first_place(wrong)),
        Check("refit", "T10", higher, REFIT.value, "", f"{saved:.1%} of f saved"),
        Check("optimum", "T6", float(cosine.max()), None, "", "0 at the best weights of the mask"),
    ]
