"""Numbers near underflow: subnormal weights of float32, the halves and float64.

A subnormal number holds fewer digits than the unit roundoff says, and squares of it vanish.
"""

from dataclasses import replace

import numpy as np

from reference import Unstructured
from tests.certificate.attacks.layers import as_given, random_layer, rounded
from tests.certificate.attacks.outcome import Court, Outcome
from tests.certificate.attacks.overflow import spoiled

LEAST = {"float64": -1074, "float32": -149, "bfloat16": -133, "float16": -24}


def attack(rng: np.random.Generator, outcome: Outcome) -> None:
    """Layers of a few steps of the smallest number up to the smallest normal one, spoiled."""
    layer = random_layer(rng, shape=(int(rng.integers(1, 5)), int(rng.choice([8, 16, 24]))))
    if layer.kind == "float64":  # squares and moved weights vanish in the reference as well
        layer = replace(layer, method="thanos", pattern=Unstructured(0.5), block=128)
    unit = 2.0 ** (LEAST[layer.kind] + rng.integers(2, 30, (len(layer.weight), 1)))
    if rng.random() < 0.3:  # one row alone is tiny
        unit[1:] = 1.0
    layer = as_given(replace(layer, weight=layer.weight * unit))
    court = Court(layer, outcome)
    # The reference makes errors of several steps; the exact run makes none.
    exact = rounded(court.T(court.right.mask).astype(np.float64), layer.kind)
    court.right = replace(court.right, weight=exact)
    # Ordinary rows of float64 beside these are too far away to be squared in one unit.
    if not court.acquit(undecidable=layer.kind == "float64"):
        return
    mask, weight = court.right.mask, court.right.weight
    for size in (1e-4, 1e-2, 1.0, 30.0, 1e4, 1e8):
        pushed = rounded(spoiled(rng, weight, mask, size), layer.kind)
        court.accuse(pushed, mask, f"moved by {size:.0g}")
    court.accuse(rounded(np.where(mask, 0.0, -30 * weight), layer.kind), mask, "turned")
    step = 2.0 ** LEAST[layer.kind]
    for steps in (1, 2, 100):
        signs = rng.choice([-steps, steps], mask.shape) * step
        pushed = rounded(np.where(mask, 0.0, weight + signs), layer.kind)
        court.accuse(pushed, mask, f"{steps} steps")
    court.accuse(np.where(mask, step, weight), mask, "removed weights of one step")
