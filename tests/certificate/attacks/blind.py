"""Pushes of kept weights along directions that H hardly sees."""

import numpy as np

from tests.certificate.attacks.exact import hessian
from tests.certificate.attacks.layers import Array, Layer, Mask, random_layer
from tests.certificate.attacks.outcome import Court, Outcome


def attack(rng: np.random.Generator, outcome: Outcome) -> None:
    """Bisect the largest push that passes, along the blindest and some random directions."""
    spectrum = str(rng.choice(["few tokens", "equal columns", "low rank"]))
    layer = random_layer(
        rng, spectrum=spectrum, method=str(rng.choice(["thanos", "sparsegpt"])),
        damping=float(rng.choice([1e-2, 1e-3, 1e-5, 1e-7])),
    )  # fmt: skip
    court = Court(layer, outcome)
    if not court.acquit(undecidable=layer.damping < 1e-5):
        return
    mask, start = court.right.mask, court.right.weight
    for what, direction in directions(layer, mask, rng).items():
        court.largest(direction, start, mask, what)
        # Far along it, with a bit of a rounding that a floor made of |Ŵ| would excuse.
        court.accuse(np.where(mask, 0.0, start + 1e6 * direction), mask, f"far, {what}")


def directions(layer: Layer, mask: Mask, rng: np.random.Generator) -> dict[str, Array]:
    """Directions that are 0 on the mask: the least and the largest eigenvectors, and others."""
    H = hessian(layer).astype(np.float64)
    found = {name: np.zeros(mask.shape) for name in ("blind", "one row", "seen", "random", "signs")}
    for row, kept in enumerate(~mask):
        if kept.any() and not kept.all():
            vectors = np.linalg.eigh(H[np.ix_(kept, kept)])[1]
            found["blind"][row, kept], found["seen"][row, kept] = vectors[:, 0], vectors[:, -1]
            found["random"][row, kept] = rng.standard_normal(kept.sum())
            found["signs"][row, kept] = rng.choice([-1.0, 1.0], kept.sum())
    row = int(np.argmax(np.abs(found["blind"]).sum(axis=1)))
    found["one row"][row] = found["blind"][row]
    return {name: each for name, each in found.items() if each.any()}
