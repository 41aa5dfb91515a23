"""A last block of one column, and blocks of one column throughout."""

import numpy as np

from tests.certificate.attacks.exact import best_row, hessian
from tests.certificate.attacks.layers import MOVING, random_layer, rounded
from tests.certificate.attacks.outcome import Court, Outcome


def attack(rng: np.random.Generator, outcome: Outcome) -> None:
    """Push each block alone, then let all later blocks follow exactly."""
    block = int(rng.choice([1, 2, 4, 8]))
    layer = random_layer(
        rng,
        shape=(int(rng.integers(1, 4)), 2 * block + 1),
        block=block,
        method=str(rng.choice(MOVING)),
    )
    court = Court(layer, outcome)
    if not court.acquit():
        return
    mask, H = court.right.mask, hessian(layer)
    W = layer.weight.astype(np.longdouble)
    for k, (j1, j2) in enumerate(layer.blocks):
        for exponent in (-30, -18, -10, 0, 6, 20):
            state = court.T(mask).copy()
            signs = rng.standard_normal((len(W), j2 - j1)) * np.abs(W).max()
            state[:, j1:j2] += np.where(mask[:, j1:j2], 0, 2.0**exponent * signs)
            for row in range(len(W)):
                for l1, l2 in layer.blocks[k + 1 :]:
                    state[row] = best_row(W[row], state[row], H, mask[row], l1, l2)
            pushed = np.where(mask, 0.0, state.astype(np.float64))
            court.accuse(rounded(pushed, layer.kind), mask, f"block {k} by 2^{exponent}")
