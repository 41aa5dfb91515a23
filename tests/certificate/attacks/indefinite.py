"""G that is slightly indefinite, or of low rank: the least eigenvalue of H is not λ."""

from dataclasses import replace

import numpy as np

from tests.certificate.attacks.blind import directions
from tests.certificate.attacks.layers import MOVING, as_given, random_layer
from tests.certificate.attacks.outcome import Court, Outcome


def attack(rng: np.random.Generator, outcome: Outcome) -> None:
    """Push along the least eigenvectors of H whose eigenvalues are a share of λ."""
    layer = random_layer(
        rng, method=str(rng.choice(MOVING)), damping=float(rng.choice([1e-2, 1e-3, 1e-4, 1e-6])),
        spectrum=str(rng.choice(["few tokens", "low rank", "equal columns"])),
    )  # fmt: skip
    share = float(rng.choice([0.0, 0.1, 0.4, 0.6, 0.9, 0.999]))
    values, vectors = np.linalg.eigh(layer.gram)
    lam = layer.damping * np.diag(layer.gram).mean()
    lowest = np.where(np.arange(len(values)) < max(1, len(values) // 4), -share * lam, values)
    gram = (vectors * lowest) @ vectors.T
    if (np.diag(gram) < 0).any():
        return
    court = Court(as_given(replace(layer, gram=(gram + gram.T) / 2)), outcome)
    try:
        if not court.acquit(undecidable=share > 0.4 or layer.damping < 1e-5):
            return
    except ValueError:  # not positive definite
        return
    mask, weight = court.right.mask, court.right.weight
    for what, direction in directions(court.layer, mask, rng).items():
        court.largest(direction, weight, mask, f"{share:g} of λ, {what}")
