"""Perplexity, against a computation without batches and known models."""

import math

import pytest
import torch

from tests.models.tiny import WORDS, llama_config, random_model, random_windows
from thanos_torch.models import perplexity


def test_it_is_the_exponential_of_the_mean_loss() -> None:
    model, windows = random_model(llama_config()), random_windows(70, 32)
    steps: list[tuple[int, int]] = []
    result = perplexity(model, windows, lambda *step: steps.append(step))
    losses = []
    with torch.no_grad():
        for window in windows:
            odds = model(window[None]).logits[0].double().log_softmax(-1)  # (seqlen, WORDS)
            losses += [-odds[place - 1, window[place]].item() for place in range(1, 32)]
    assert result.perplexity == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-5)
    assert (result.windows, result.seqlen, result.tokens) == (70, 32, 70 * 31)
    assert result.as_dict()["tokens"] == len(losses)
    assert len(steps) > 1
    assert steps[-1] == (70, 70)


def test_a_model_that_knows_nothing_is_as_good_as_its_vocabulary_is_large() -> None:
    model = random_model(llama_config())
    model.lm_head.weight.data.zero_()
    assert perplexity(model, random_windows()).perplexity == pytest.approx(WORDS, rel=1e-5)


@pytest.mark.parametrize("value", [float("nan"), 1e6])
def test_what_is_not_finite_is_no_perplexity(value: float) -> None:
    model = random_model(llama_config())
    model.lm_head.weight.data.mul_(value)
    with pytest.raises(ValueError, match="perplexity is not finite"):
        perplexity(model, random_windows())


@pytest.mark.parametrize(("seqlen", "message"), [(1, "at least 2, got 1"), (65, "at most 64")])
def test_refusals(seqlen: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"seqlen must be {message}"):
        perplexity(random_model(llama_config()), random_windows(1, seqlen))
