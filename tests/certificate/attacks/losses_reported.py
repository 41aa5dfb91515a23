"""Reported block losses that are not those of the result."""

import math
from typing import Any

import numpy as np
import torch

from tests.certificate.attacks.exact import hessian
from tests.certificate.attacks.layers import random_layer
from tests.certificate.attacks.outcome import FAR_OFF, ROUNDOFF, Court, Outcome


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
        what = f"{what}, γ {damping:.0g}, {layer.method}"
        outcome.count(found, over > FAR_OFF, what, over_exact=over)


def distance(court: Court, reported: Any) -> float:
    """|ℓ_k − ‖E_k‖²| over what docs/certificate.md allows; infinite for what are no numbers."""
    layer, mask = court.layer, court.right.mask
    given = np.asarray(reported)
    if given.dtype.kind != "f" or not np.isfinite(given).all():
        return math.inf
    H = hessian(layer).astype(np.float64)
    M = np.linalg.cholesky(H[::-1, ::-1])[::-1, ::-1].T
    T = np.asarray(court.T(mask), dtype=np.float64)
    E, D_sizes = (court.right.weight - layer.weight) @ M.T, np.abs(T - layer.weight)
    b, rows, u = len(H), mask.any(axis=1), 8 * ROUNDOFF[layer.arithmetic]
    whole = len(layer.blocks) == 1 and layer.method == "thanos"
    starts = list(range(0, b, b if whole else layer.block))
    of_factor = u * float(np.sum((D_sizes @ np.abs(M).T) ** 2))
    relative = 8 * 2.0**-53 * float(np.linalg.cond(H, 1)) if layer.moves else 0.0
    if given.shape != (len(starts),):
        return math.inf
    worst = 0.0
    for k, (j1, j2) in enumerate(zip(starts, [*starts[1:], b], strict=True)):
        sizes = np.abs(layer.weight[rows, :j2]) + np.abs(T[rows, :j2])
        a = u * sizes @ np.abs(M[j1:j2, :j2]).T
        loss = float(np.sum(E[:, j1:j2] ** 2))
        allowed = float(np.sum(2 * np.abs(E[rows, j1:j2]) * a + a**2))
        allowed += of_factor + relative * loss
        off = abs(float(given[k]) - loss) if given[k] >= 0 else math.inf
        # Sums in another order, and a condition number of which LAPACK's is an estimate.
        worst = max(worst, off / (1.01 * allowed) if allowed else float(off > 0))
    return worst
