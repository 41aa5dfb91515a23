"""Masks inside the rounding margins, chosen to maximise the loss."""

import numpy as np

from reference import Pattern, SemiStructured, Structured, Unstructured
from tests.certificate.attacks.exact import losses
from tests.certificate.attacks.layers import Array, Layer, Mask, as_given, rounded
from tests.certificate.attacks.outcome import Court, Outcome

# Of the rows beside those with ties: what they are larger by. None loses anything, or very little.
BESIDE = (None, 1.0, 1e4, 1e8, 1e16, 1e170)


def attack(rng: np.random.Generator, outcome: Outcome) -> None:
    """Ties between columns that others can stand in for and columns that none can."""
    m = int(rng.choice([4, 8, 16]))
    arithmetic = str(rng.choice(["float64", "float32"]))
    beside = BESIDE[rng.integers(len(BESIDE))]
    if arithmetic == "float32" and beside == 1e170:
        beside = 1e30
    layer = tied(rng, m, arithmetic, beside)
    court = Court(layer, outcome)
    if not court.acquit():
        return
    for what, mask in masks(rng, layer, court.right.mask, m, court).items():
        T = rounded(court.T(mask).astype(np.float64), layer.kind)
        court.accuse(np.where(mask, 0.0, T), mask, f"{what}, {layer.pattern}, beside {beside}")


def tied(rng: np.random.Generator, m: int, arithmetic: str, beside: float | None) -> Layer:
    """Groups of m columns, half of them equal; all scores are the same but for half a rounding."""
    b, c = 4 * m, int(rng.integers(1, 5))
    G = np.eye(b)
    even = np.arange(b) % m < m // 2
    for k in range(0, b, m):
        G[k : k + m // 2, k : k + m // 2] = 1.0
    u = 2.0**-24 if arithmetic == "float32" else 2.0**-53
    W = np.where(even, 1 - u, 1 + 2 * u) * rng.choice([-1.0, 1.0], (c, 1))
    W[:, ::m] *= 2  # surely kept: it stands in for those that are equal to it
    method = str(rng.choice(["thanos", "thanos", "sparsegpt", "magnitude", "wanda"]))
    alpha = 0.0
    pattern: Pattern = SemiStructured(m // 2 - 1, m)
    if beside is not None:
        W = np.vstack([W, np.full((1, b), beside)])
        alpha = 0.1
        pattern = SemiStructured(m // 2 - 1, m, alpha)
        method = "thanos"
    elif rng.random() < 0.5:
        share = (m // 2 - 1) / m
        pattern = Unstructured(share) if rng.random() < 0.6 else Structured(share)
    if beside is not None and rng.random() < 0.4:
        # All that the tied rows lose; the larger row loses nothing, and is no outlier row.
        pattern = Unstructured(float(c * b * (m // 2 - 1) / m) / W.size)
    layer = Layer(W, G, pattern, method, int(rng.choice([m, 128])), 0.01, arithmetic)
    return as_given(layer)


def masks(
    rng: np.random.Generator, layer: Layer, right: Mask, m: int, court: Court
) -> dict[str, Mask]:
    """Other masks of the same counts: what none can stand in for; and the worst of some swaps."""
    lone = (np.arange(right.shape[1]) % m >= m // 2) * 1.0
    sure = np.where(np.arange(len(lone)) % m == 0, -99.0, 0.0)  # no tie
    group = m if isinstance(layer.pattern, SemiStructured) else len(lone)
    order = 1e-3 * rng.random(len(lone)) + sure
    found = {"lone first": refilled(right, lone + order, group)}
    found["other half"] = refilled(right, -lone + order, group)
    worst, least = right, float(losses(layer, court.T(right)).sum())
    for _ in range(8):
        wish = rng.standard_normal(
            len(lone) if isinstance(layer.pattern, Structured) else right.shape
        )
        tried = refilled(right, wish + lone + sure, group)
        loss = float(losses(layer, court.T(tried)).sum())
        if loss > least:
            worst, least = tried, loss
    found["worst of some"] = worst
    return found


def refilled(right: Mask, order: Array, group: int) -> Mask:
    """As many removed in every group of a row, those first that are largest in `order`."""
    shape = len(right), -1, group
    scores = np.broadcast_to(order, right.shape).reshape(shape)
    ranks = np.argsort(np.argsort(-scores, axis=2, kind="stable"), axis=2)
    found: Mask = ranks < right.reshape(shape).sum(axis=2, keepdims=True)
    return found.reshape(right.shape)
