"""Reported block losses that are not those of the result.

Accepted by an earlier certificate:
losses [NaN, NaN, NaN, right].
"""

import math
from typing import Any

import numpy as np
import torch

from tests.certificate.attacks.exact import energies, hessian
from tests.certificate.attacks.layers import random_layer
from tests.certificate.attacks.outcome import ROUNDOFF, Court, Outcome


def attack(rng: np.random.Generator, outcome: Outcome) -> None:
    """Losses with NaN, of another block, of nothing, and of types that hide what they are."""
    damping = float(rng.choice([1e-2, 1e-4, 1e-8, 1e-14, 1e-15]))
    spectrum = str(rng.choice(["many tokens", "few tokens", "equal columns"]))
    layer = random_layer(
        rng, block=int(rng.choice([1, 2, 4, 8])), damping=damping, storage=None, spectrum=spectrum
    )
    court = Court(layer, outcome)
    try:
        right = np.asarray(court.right.block_losses, dtype=np.float64)
    except ValueError:  # not positive definite
        return
    if not court.acquit(undecidable=damping < 1e-5, block_losses=right):
        return
    court.acquit(block_losses=torch.tensor(right, requires_grad=True))
    candidates: dict[str, Any] = {
        "NaN but for the last": np.where(np.arange(len(right)) < len(right) - 1, np.nan, right),
        "NaN": right * np.nan, "infinite": right + np.inf, "nothing": 0 * right, "negative": -right,
        "double": 2 * right, "turned": right[::-1], "one too many": [*right, 0.0],
        "imaginary": right + 1j * right.max(), "text": right.astype(str),
        "1e4000": right.astype(np.longdouble) * np.longdouble(10) ** 4000,
    }  # fmt: skip
    for what, reported in candidates.items():
        found = court.verdict(court.right.weight, court.right.mask, block_losses=reported)
        over = distance(court, reported)
        outcome.tries += 1
        if found == "passed":
            outcome.accepted += 1
            outcome.raise_to("over_exact", over, f"{what}, γ {damping:.0g}, {layer.method}")
        else:
            outcome.far_off += over > 10


def distance(court: Court, reported: Any) -> float:
    """√ℓ_k less ‖E_k‖, over 1 % of √f and the rounding of E; infinite for what are no numbers."""
    layer, mask = court.layer, court.right.mask
    given = np.asarray(reported)
    if given.dtype.kind != "f" or not np.isfinite(given).all():
        return math.inf
    H = hessian(layer).astype(np.float64)
    D = court.right.weight - layer.weight
    M = np.linalg.cholesky(H[::-1, ::-1])[::-1, ::-1].T
    E = np.asarray(D @ M.T, dtype=np.float64)
    b = len(H)
    ends = list(
        range(0, b, layer.block if len(layer.blocks) > 1 or layer.method != "thanos" else b)
    )
    if layer.method == "sparsegpt":
        ends = list(range(0, b, layer.block))
    lengths = np.array(
        [np.linalg.norm(E[:, j:k]) for j, k in zip(ends, [*ends[1:], b], strict=True)]
    )
    if given.shape != lengths.shape:
        return math.inf
    N = energies(layer, court.T(mask)) + energies(layer, layer.weight.astype(np.longdouble))
    floor = 8 * b * ROUNDOFF[layer.arithmetic] * math.sqrt(float(N[mask.any(axis=1)].sum()))
    allowed = 0.01 * np.linalg.norm(E) + floor
    with np.errstate(over="ignore"):
        off = np.abs(np.sqrt(np.abs(given.astype(np.float64))) * np.sign(given) - lengths).max()
    return float(off / allowed) if allowed else (0.0 if off == 0 else math.inf)
