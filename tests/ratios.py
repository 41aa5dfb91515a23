"""The comparisons of floats in tests, each a ratio with a formula, a threshold and its reason.

Ratios are differences divided by the size of the inputs, so that cancellation does not count as an
error. NaN always fails: `if not ratio <= threshold`.
"""

import numpy as np

from reference import Pruned
from tests.mathematics import Array, Judged, Mask, blocks
from verification.certificate import NOT_DECIDABLE, Certificate

# max|x − y| / max|y|. Layers of the strategies have cond(H) up to about 1e7 (γ = 1e-4, a loud
# column), so float64, u = 1e-16, may lose seven digits of sixteen. Worst seen: 4e-12.
SAME_NUMBERS = 1e-9
# (x − y) / y for sums of a few squares, where nothing cancels. Worst seen: 7e-16.
SAME_SUM = 1e-12
# |G_k| / its terms, float64: the threshold of (7), on a ratio that (7) bounds from above. Worst
# seen: 4e-13.
OPTIMAL = 1e-10
# A distance over its bound by T8, which is reached where C_FF is λI. Worst seen: 1.0.
T8_BOUND = 1 + 1e-9


def check_ratio(name: str, ratio: float, threshold: float) -> None:
    """Raise AssertionError if a ratio exceeds its threshold or is NaN."""
    if not ratio <= threshold:
        raise AssertionError(f"{name}: ratio {ratio:.3g} exceeds {threshold:.3g}")


def check_same_numbers(
    name: str, found: Array, expected: Array, threshold: float = SAME_NUMBERS
) -> None:
    """max|found − expected| / max|expected| ≤ threshold; both all zero is equal."""
    assert found.shape == expected.shape, f"{name}: shapes {found.shape}, {expected.shape}"
    size = float(np.max(np.abs(expected), initial=0.0))
    difference = float(np.max(np.abs(found - expected), initial=0.0))
    check_ratio(name, difference / size if size else difference, threshold)


def check_at_most(name: str, left: float, right: float, scale: float) -> None:
    """left ≤ right in exact arithmetic: (left − right) / scale ≤ SAME_SUM."""
    check_ratio(name, (left - right) / scale if scale else left - right, SAME_SUM)


def check_optimal(judged: Judged, mask: Mask, width: int) -> None:
    """T2: |G_k| over the terms it is a difference of, on unpruned entries ≤ OPTIMAL."""
    for j1, j2 in blocks(mask.shape[1], width):
        gradient, sizes = np.abs(judged.gradient(j1, j2)), judged.sizes(j1, j2)
        gradient = np.where(mask[:, j1:j2], 0.0, gradient)
        ratio = np.divide(gradient, sizes, out=gradient.copy(), where=sizes > 0)
        check_ratio(f"gradient of columns {j1} to {j2 - 1}", float(ratio.max()), OPTIMAL)


def check_bits(name: str, found: Array, expected: Array) -> None:
    """Equal bit for bit, the sign of zero included."""
    same = (found == expected) & (np.signbit(found) == np.signbit(expected))
    assert same.all(), f"{name}: {int((~same).sum())} entries differ, first {np.argwhere(~same)[0]}"


def check_certified(certificate: Certificate) -> None:
    """No check failed. Only the loss of a tie that rounding broke the other way may stay open.

    Tiny layers on a grid have equal scores, and in a row of four weights it matters which one goes.
    """
    left = [check for check in certificate.checks if not check.passed]
    assert all(check.name == "choices" and not check.decides for check in left), certificate
    if left:
        assert certificate["masks"].passed, certificate
        assert certificate.verdict == NOT_DECIDABLE, certificate


def check_zeros(pruned: Pruned) -> None:
    """Removed entries are +0.0."""
    removed = pruned.weight[pruned.mask]
    check_bits("removed weights", removed, np.zeros_like(removed))
