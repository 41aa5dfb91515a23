"""NaN that arises in an early block, and NaN in Ŵ itself."""

import numpy as np

from tests.certificate.attacks.layers import random_layer, rounded
from tests.certificate.attacks.outcome import Court, Outcome
from tests.certificate.attacks.overflow import TOPS


def attack(rng: np.random.Generator, outcome: Outcome) -> None:
    """Opposite weights whose sums are ∞ - ∞ on the way, in blocks before a last narrow one."""
    b, block = ((129, 128), (17, 16), (9, 4), (5, 1))[rng.integers(4)]
    method = str(rng.choice(["thanos", "sparsegpt"])) if b < 129 else "thanos"
    arithmetic = str(rng.choice(["float64", "float32"]))
    layer = random_layer(
        rng, shape=(2, b), block=block, method=method, arithmetic=arithmetic, storage=None
    )
    court = Court(layer, outcome)
    if not court.acquit():
        return
    mask, top = court.right.mask, TOPS[layer.kind]
    early = np.flatnonzero(~mask[0, : b - 1])
    for size in (np.nan, np.inf, top, top / 2, top / 16, np.sqrt(top)):
        for several in (1, 2, len(early)):
            pushed = court.right.weight.copy()
            pushed[0, early[:several]] = (
                size * np.where(np.arange(several) % 2, -1, 1)[: len(early)]
            )
            what = f"{size:.1g} in {several} of the first columns"
            court.accuse(rounded(pushed, layer.kind), mask, what)
    # Row 0 makes NaN, and all kept weights of the others are arbitrary.
    wild = np.where(mask, 0.0, 10 * rng.standard_normal(mask.shape))
    wild[0, early[:2]] = [top, -top][: len(early)]
    court.accuse(rounded(wild, layer.kind), mask, "wild")
    court.accuse(rounded(wild, layer.kind), None, "wild, mask inferred")
