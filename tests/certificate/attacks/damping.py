"""Tiny γ, where H has directions that float64 cannot see."""

import numpy as np

from tests.certificate.attacks.blind import directions
from tests.certificate.attacks.layers import MOVING, random_layer, rounded
from tests.certificate.attacks.outcome import Court, Outcome
from tests.certificate.attacks.overflow import spoiled


def attack(rng: np.random.Generator, outcome: Outcome) -> None:
    """Random kept weights, pushes along blind directions and other masks, at γ down to 1e-30."""
    gamma = float(10.0 ** -rng.choice([5, 6, 7, 8, 9, 10, 12, 20, 30]))
    layer = random_layer(
        rng, damping=gamma, method=str(rng.choice(MOVING)),
        spectrum=str(rng.choice(["few tokens", "equal columns", "many tokens"])),
    )  # fmt: skip
    court = Court(layer, outcome)
    try:
        passes = court.acquit(undecidable=True)
    except ValueError:  # the reference refuses an H that is not positive definite in float64
        return
    mask, weight = court.right.mask, court.right.weight
    for size in (1e-2, 1.0, 1e3):
        pushed = rounded(spoiled(rng, weight, mask, size), layer.kind)
        court.accuse(pushed, mask, f"γ {gamma:.0g}, by {size:.0g}")
    for what, direction in directions(layer, mask, rng).items():
        if passes and what in ("blind", "random"):
            court.largest(direction, weight, mask, f"γ {gamma:.0g}, {what}")
        else:
            far = rounded(weight + 1e6 * direction, layer.kind)
            court.accuse(np.where(mask, 0.0, far), mask, f"γ {gamma:.0g}, {what}")
    other = rng.permutation(mask.ravel()).reshape(mask.shape)
    court.accuse(np.where(other, 0.0, rounded(layer.weight, layer.kind)), other, "another mask")
