"""Refits of a spoiled "before", refits that lose more, and refits that change the support."""

import math
from dataclasses import replace

import numpy as np

import reference
from reference import SemiStructured
from tests.certificate.attacks.blind import directions
from tests.certificate.attacks.exact import energies, losses
from tests.certificate.attacks.layers import MOVING, Layer, random_layer, rounded
from tests.certificate.attacks.outcome import FAR_OFF, ROUNDOFF, Court, Outcome, excess
from tests.certificate.attacks.overflow import spoiled


def attack(rng: np.random.Generator, outcome: Outcome) -> None:
    """Spoil what a refit started from, then the refit; also beside a large outlier row."""
    method = str(rng.choice(["thanos", "sparsegpt", "wanda", "magnitude"]))
    gamma = float(rng.choice([1e-2, 1e-4] if method in MOVING else [1e-2, 1e-6, 1e-12, 1e-14]))
    spectrum = str(rng.choice(["many tokens", "few tokens"]))
    layer = random_layer(rng, method=method, damping=gamma, spectrum=spectrum)
    if layer.moves and rng.random() < 0.5:
        layer = beside_an_outlier(rng, layer)
    # Rows that lose nothing keep their bits, so the original is in the type of the storage as well.
    layer = replace(layer, weight=rounded(layer.weight, layer.kind))
    # What a refit is made of is in the type of the arithmetic; the refit alone is stored.
    court = Court(replace(layer, storage=None), outcome)
    try:
        before, mask = court.right.weight, court.right.mask
    except ValueError:  # the reference refuses H
        return
    kind = layer.kind
    if not mask.any():
        return
    good = rounded(
        reference.refit(
            layer.weight, layer.gram, court.right, steps=8, damping=layer.damping
        ).weight,
        kind,
    )
    good = np.where(mask.any(axis=1, keepdims=True), good, before)
    if layer.storage == "float16" and not np.isfinite(good).all():
        return
    others = {"storage": layer.storage}
    if not court.acquit(undecidable=gamma < 1e-5, refitted_weight=good, **others):
        return
    # Blind to H in float64, or nearly so.
    for what, direction in directions(layer, mask, rng).items():
        for size in (1e-2, 1e2, 1e6, 1e8, 1e10):
            pushed = rounded(np.where(mask, 0.0, good + size * direction), kind)
            if np.isfinite(pushed).all():
                accuse_refit(court, layer, pushed, f"{what} by {size:.0g}, γ {gamma:.0g}")
    for size in (1e-2, 1.0, 1e3, 1e30):
        wild = rounded(spoiled(rng, before, mask, size), layer.arithmetic)
        if np.isfinite(wild).all():
            court.accuse(wild, mask, f"before by {size:.0g}", refitted_weight=good, **others)
            court.accuse(
                wild, mask, f"before by {size:.0g}, refit of it", refitted_weight=wild, **others
            )
    ordinary = mask.any(axis=1, keepdims=True)
    for size in (1e-3, 1e-2, 1e-1, 1.0, 1e2, 1e4, 1e8, 1e16):
        wild = np.where(ordinary, rounded(spoiled(rng, good, mask, size), kind), before)
        if np.isfinite(wild).all():
            accuse_refit(court, layer, wild, f"refit by {size:.0g}")
    changed = np.where(mask, 1.0, good)
    accuse_refit(court, layer, changed, "other support")
    least = {"float64": 5e-324, "float32": 2.0**-149, "bfloat16": 2.0**-133, "float16": 2.0**-24}
    accuse_refit(court, layer, np.where(mask, least[kind], good), "removed weights that are tiny")


def beside_an_outlier(rng: np.random.Generator, layer: Layer) -> Layer:
    """The layer with one outlier row, which may be far larger, in an n:m pattern."""
    b = len(layer.gram) // 2 * 2
    size = float(
        10.0 ** rng.choice([0, 2, 4] if layer.arithmetic == "float32" else [0, 4, 30, 150])
    )
    if layer.storage == "float16":
        size = min(size, 1e3)
    weight = np.vstack([layer.weight[:, :b], size * np.ones((1, b))])
    return replace(
        layer, method="thanos", weight=rounded(weight, layer.arithmetic), gram=layer.gram[:b, :b],
        pattern=SemiStructured(1, 2, 0.1), block=2 * max(1, layer.block // 2),
    )  # fmt: skip


def accuse_refit(court: Court, layer: Layer, refitted: np.ndarray, what: str) -> None:
    """Hold the losses of a refit against those of the exact run that it started from."""
    mask = court.right.mask
    found = court.verdict(court.right.weight, mask, refitted_weight=refitted, storage=layer.storage)
    f = float(losses(layer, refitted).sum())
    T = court.T(mask)
    f_T = float(losses(layer, T).sum())
    touched = mask.any(axis=1)
    u_storage = ROUNDOFF[layer.storage] if layer.storage else 0.0
    spread = math.sqrt((8 * ROUNDOFF[layer.arithmetic]) ** 2 + u_storage**2)
    floor = spread * math.sqrt(float(energies(layer, T)[touched].sum()))
    bound = (1 + 1.5 * math.sqrt(excess(layer))) * math.sqrt(f_T) + floor
    over = math.sqrt(f) / bound if bound else float(f > 0)
    if (refitted[mask] != 0).any():
        over = math.inf
    stored = f / f_T if f_T else 1.0
    court.outcome.count(found, over > math.sqrt(FAR_OFF), what, over_exact=over, stored=stored)
