"""Roundings to the storage type, made the wrong way wherever that is accepted."""

from dataclasses import replace

import numpy as np

from reference import Unstructured
from tests.certificate.attacks.layers import Layer, random_layer, rounded
from tests.certificate.attacks.outcome import Court, Outcome

HALF = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24}


def attack(rng: np.random.Generator, outcome: Outcome) -> None:
    """Round the entries nearest to a tie the other way; bisect on how many pass."""
    arithmetic, storage = (("float32", "bfloat16"), ("float32", "float16"), ("float64", "float32"))[
        rng.integers(3)
    ]
    tied = rng.random() < 0.5  # weights that stay where they are, all nearly halfway
    layer = random_layer(
        rng,
        arithmetic=arithmetic,
        storage=storage,
        method="sparsegpt",
        shape=(6, 24),  # of which something is removed: else W is kept bit for bit
        spectrum="identity" if tied else "many tokens",
        pattern=Unstructured(float(rng.choice([0.05, 0.5]))),
    )
    layer = halfway(rng, layer) if tied else layer
    court = Court(layer, outcome)
    if not court.acquit():
        return
    mask = court.right.mask
    T = court.T(mask).astype(np.float64)
    near, other = rounded(T, storage), rounded_away(T, storage)
    distance = np.where(
        mask | (near == other), np.inf, np.abs(np.abs(T - near) - np.abs(T - other))
    )
    order = np.argsort(distance / np.abs(near - other + mask), axis=None)
    low, high = 0, int(np.isfinite(distance).sum())
    while low <= high:
        several = (low + high) // 2
        flipped = near.copy()
        flipped.flat[order[:several]] = other.flat[order[:several]]
        if court.accuse(np.where(mask, 0.0, flipped), mask, f"{several} flipped"):
            low = several + 1
        else:
            high = several - 1
    court.accuse(np.where(mask, 0.0, 3 * other), mask, "three times")
    court.accuse(np.where(mask, 0.0, other + 64 * (other - near)), mask, "64 steps away")


def halfway(rng: np.random.Generator, layer: Layer) -> Layer:
    """The layer with weights that lie halfway between two numbers of the storage type, nearly."""
    storage = layer.storage or "float32"
    W = rounded(layer.weight, storage)
    sizes = 2.0 ** np.floor(np.log2(np.where(W == 0, 1.0, np.abs(W))))
    tie = W + np.sign(W) * sizes * HALF[storage] * (1 + 1e-4 * rng.uniform(-1, 1, W.shape))
    return replace(layer, weight=rounded(tie, layer.arithmetic))


def rounded_away(T: np.ndarray, kind: str) -> np.ndarray:
    """The number of the type on the other side of each entry than the nearest."""
    near = rounded(T, kind)
    step = np.abs(near) * 1.2 * HALF[kind]
    return rounded(near + np.sign(T - near) * np.maximum(step, 1e-30), kind)
