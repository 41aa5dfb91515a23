"""Rounding passes as agreement of losses; a bias and larger differences do not."""

import numpy as np
import pytest
import torch

from tests.models.tiny import llama_config, random_model, random_windows
from tests.runtimes.losses import Agreement, Losses, OurLosses, our_losses
from thanos_torch.models import perplexity

NOISE = 1e-3
SHAPE = (4, 255)


def drawn(seed: int) -> Losses:
    return np.random.default_rng(seed).normal(size=SHAPE)


def ours() -> OurLosses:
    weights = 3 + drawn(0)
    return OurLosses(weights, weights, weights + NOISE * drawn(1))


@pytest.mark.parametrize(
    ("difference", "right"),
    [
        (NOISE * drawn(2), True),
        (3 * NOISE * drawn(2), False),
        (NOISE * (drawn(2) + 0.3), False),
        (np.where(np.arange(255) == 7, 0.1, 0) * np.ones(SHAPE), False),
        (np.full(SHAPE, np.nan), False),
    ],
    ids=["rounding", "too large", "a bias", "one token of each window", "not a number"],
)
def test_agreement(difference: Losses, right: bool) -> None:
    own = ours()
    assert Agreement.of(own.weights + difference, own).right == right


def test_losses_are_those_of_thanos_eval_and_16_bits_change_them_a_little() -> None:
    model, windows = random_model(llama_config()), random_windows()
    expected = perplexity(model, windows).window_losses
    found = our_losses(model, windows)
    assert found.whole.mean(axis=1) == pytest.approx(expected, rel=1e-6)  # sums in another order
    assert 0 < abs(found.weights - found.whole).max() < 0.1
    assert 0 < found.noise < 0.1
    assert all(torch.equal(p, p.half().float()) for p in model.parameters() if p.dim() > 1)
