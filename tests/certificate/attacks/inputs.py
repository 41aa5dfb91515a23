"""Inputs of types that float64 cannot hold, or that are no arrays of numbers."""

from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array

from tests.certificate.attacks.layers import random_layer
from tests.certificate.attacks.outcome import Court, Outcome


def attack(rng: np.random.Generator, outcome: Outcome) -> None:
    """Removed weights that only a wider type holds, and the right numbers in other clothes."""
    layer = random_layer(rng, shape=(3, 8), storage=None)
    court = Court(layer, outcome)
    if not court.acquit():
        return
    right, mask = court.right.weight, court.right.mask
    tensor = torch.tensor(right, dtype=getattr(torch, layer.arithmetic), requires_grad=True)
    outcome.right += 1
    if court.verdict(tensor, torch.from_numpy(mask)) != "passed":
        outcome.right_refused += 1
        outcome.notes.append("a tensor that requires grad was refused")
    hidden = np.where(mask, np.longdouble(10) ** -4000, right.astype(np.longdouble))
    tiny = np.where(mask, 5e-324, right)
    strange: dict[str, Any] = {
        "longdouble": hidden, "complex": right + 1j * mask, "object": hidden.astype(object),
        "negative zeros": np.where(mask, -0.0, right), "text": tiny.astype(str),
    }  # fmt: skip
    for what, given in strange.items():
        # Measured with removed weights that are not +0, as they are: above every bound.
        court.accuse(tiny, mask, what, given=given)
    court.accuse(tiny, mask, "sparse", given=csr_array(tiny))
    court.accuse(np.rint(right), mask, "integers", given=np.rint(right).astype(np.int64))
    kept = np.where(mask, 0.0, 1e30 * rng.standard_normal(mask.shape))
    outcome.tries += 1
    assert court.verdict(kept, 2 * mask.astype(int)) == "failed"
