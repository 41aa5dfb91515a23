"""Types that the accused chooses: results stored more narrowly than asked, or not as said."""

import numpy as np
import torch

from tests.certificate.attacks.blind import directions
from tests.certificate.attacks.layers import random_layer, rounded
from tests.certificate.attacks.outcome import Court, Outcome
from tests.certificate.attacks.overflow import spoiled


def attack(rng: np.random.Generator, outcome: Outcome) -> None:
    """Give bfloat16 and float16 where float32 was asked, and float32 where a half type was."""
    arithmetic = str(rng.choice(["float32", "float64"]))
    layer = random_layer(
        rng,
        arithmetic=arithmetic,
        storage=None,
        spectrum=str(rng.choice(["few tokens", "equal columns"])),
    )
    court = Court(layer, outcome)
    if court.acquit():
        mask, weight = court.right.mask, court.right.weight
        for kind in ("bfloat16", "float16"):
            for size in (0.0, 1e-2, 1.0, 1e4):
                pushed = rounded(spoiled(rng, weight, mask, size), kind)
                if np.isfinite(pushed).all():
                    typed = torch.from_numpy(pushed).to(getattr(torch, kind))
                    court.accuse(pushed, mask, f"{kind} by {size:.0g}", given=typed)
    said = random_layer(rng, arithmetic=arithmetic, storage="bfloat16", damping=0.01)
    court = Court(said, outcome)
    if court.acquit():
        mask, weight = court.right.mask, court.right.weight
        for what, direction in directions(said, mask, rng).items():
            for size in (1e-3, 1.0, 1e3):
                pushed = rounded(np.where(mask, 0.0, weight + size * direction), "float32")
                court.accuse(pushed, mask, f"float32 said to be bfloat16, {what} by {size:.0g}")
