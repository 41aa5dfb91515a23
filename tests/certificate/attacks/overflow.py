"""Kept weights near the top of their type, where floors and sums of squares overflow."""

import numpy as np

from tests.certificate.attacks.layers import Array, Mask, random_layer, rounded
from tests.certificate.attacks.outcome import Court, Outcome

TOPS = {"float64": 1.7e308, "float32": 3.4e38, "bfloat16": 3.38e38, "float16": 65504.0}


def attack(rng: np.random.Generator, outcome: Outcome) -> None:
    """Set one or all kept weights a row to the largest numbers, of the type and of its roots."""
    layer = random_layer(rng, shape=(int(rng.integers(1, 5)), int(rng.choice([8, 17, 24]))))
    court = Court(layer, outcome)
    if not court.acquit():
        return
    mask, top = court.right.mask, TOPS[layer.kind]
    sizes = [top, top * 2.0**-20, top**0.75, top**0.5, top**0.25, 4 * top**0.5]
    sizes += [size * float(np.abs(layer.weight).max()) for size in sizes[1:]]
    for size in sizes:
        for what, place in places(rng, mask).items():
            pushed = np.where(place, size * rng.choice([-1, 1], mask.shape), court.right.weight)
            if np.isfinite(rounded(pushed, layer.kind)).all():
                court.accuse(rounded(pushed, layer.kind), mask, f"{what} {size:.1g}")


def places(rng: np.random.Generator, mask: Mask) -> dict[str, Mask]:
    """Kept weights to replace: one a row, one of the layer, all of them."""
    order = np.where(mask, -1.0, rng.random(mask.shape))
    one = (order == order.max(axis=1, keepdims=True)) & ~mask
    single: Mask = (order == order.max()) & ~mask
    return {"one a row": one, "one": single, "all": ~mask}


def spoiled(rng: np.random.Generator, weight: Array, mask: Mask, size: float) -> Array:
    """Kept weights moved at random by `size` times their row's largest."""
    scale = np.abs(weight).max(axis=1, keepdims=True)
    return np.where(mask, 0.0, weight + size * scale * rng.standard_normal(weight.shape))
