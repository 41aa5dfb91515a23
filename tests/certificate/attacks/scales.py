"""Huge and tiny rows and columns."""

from dataclasses import replace

import numpy as np

from reference import SemiStructured
from tests.certificate.attacks.layers import MOVING, as_given, random_layer, rounded
from tests.certificate.attacks.outcome import Court, Outcome
from tests.certificate.attacks.overflow import spoiled


def attack(rng: np.random.Generator, outcome: Outcome) -> None:
    """Spoil rows beside far larger or smaller ones; then masks beside one weight a row of 1e16."""
    layer = random_layer(rng, shape=(int(rng.integers(2, 6)), int(rng.choice([8, 16, 24]))))
    wide = layer.arithmetic == "float64" and layer.storage is None
    # The reference squares scores of the others; beyond 1e140 its masks are not right any more.
    plain = layer.method == "thanos" and str(layer.pattern) in ("1:2", "2:4", "unstructured:0.5")
    reach = (170 if plain else 140) if wide else 3 if layer.kind == "float16" else 30
    rows = 10.0 ** rng.choice([-reach, 0, reach], (len(layer.weight), 1))
    columns = 10.0 ** rng.choice([-3, 0, 3], len(layer.gram))
    weight, gram = layer.weight * rows, layer.gram * np.outer(columns, columns)
    court = Court(as_given(replace(layer, weight=weight, gram=gram)), outcome)
    # Rows of an unstructured layer that are 2^700 apart have no unit in which both are numbers.
    if court.acquit(undecidable=bool(np.ptp(np.log10(rows)) > 200)):
        mask = court.right.mask
        for size in (1e-3, 1.0, 1e3):
            for row in range(len(mask)):
                pushed = court.right.weight.copy()
                pushed[row] = spoiled(rng, pushed, mask, size)[row]
                what = f"row {row} of {rows.ravel()} by {size}"
                court.accuse(rounded(pushed, court.layer.kind), mask, what)
    one_a_row(rng, outcome)


def one_a_row(rng: np.random.Generator, outcome: Outcome) -> None:
    """The complement of the right mask behind the first block, where one weight a row is huge."""
    size = float(10.0 ** rng.choice([7, 12, 14, 16, 18, 20, 24]))
    layer = random_layer(
        rng, shape=(4, 16), method=str(rng.choice(MOVING)), pattern=SemiStructured(2, 4), block=4,
        arithmetic=str(rng.choice(["float64", "float32"])), damping=0.01,
    )  # fmt: skip
    # Half of the others are a thousandth as large: removing the wrong half loses a million times.
    small = rng.permuted(np.tile(np.arange(4) % 2 == 0, (16, 1)), axis=1).reshape(4, 16)
    weight = layer.weight * np.where(small, 1e-3, 1)
    weight[:, 0] = size
    court = Court(as_given(replace(layer, weight=weight)), outcome)
    if not court.acquit(undecidable=True):
        return
    for groups in (1, 2, 3):
        other = court.right.mask.copy()
        other[:, -4 * groups :] ^= True
        T = rounded(court.T(other).astype(np.float64), layer.kind)
        court.accuse(np.where(other, 0.0, T), other, f"complement beside {size:.0g}")
