"""Perplexity, against a computation without batches and known models."""

import importlib
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Gemma3Config, Gemma3TextConfig

from tests.models.families import FAMILIES
from tests.models.tiny import WORDS, llama_config, random_model, random_windows
from thanos_torch.models import perplexity
from thanos_torch.network.layers import decoder_blocks

# `thanos_torch.evaluation` has a function of this name.
of_perplexity = importlib.import_module("thanos_torch.evaluation.perplexity")


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
    by_window = torch.tensor(losses).view(70, 31).mean(dim=1)
    assert result.window_losses == pytest.approx(by_window.tolist(), rel=1e-5)
    assert result.as_dict()["window_losses"] == result.window_losses
    assert (result.windows, result.seqlen, result.stride, result.tokens) == (70, 32, 32, 70 * 31)
    assert result.as_dict()["tokens"] == len(losses)
    assert len(steps) > 1
    assert steps[-1] == (70, 70)


@pytest.mark.parametrize("stride", [31, 8, 1])
def test_overlapping_windows_score_each_token_once(stride: int) -> None:
    model, text = random_model(llama_config()), random_windows(1, 200)[0]
    starts = range(0, 200 - 32 + 1, stride)
    windows = torch.stack([text[start : start + 32] for start in starts])
    result = perplexity(model, windows, stride=stride)
    # By place in the text; the first window to reach a token gives it most context.
    losses: dict[int, float] = {}
    with torch.no_grad():
        for start, window in zip(starts, windows, strict=True):
            odds = model(window[None]).logits[0].double().log_softmax(-1)
            for place in range(1, 32):
                loss = -odds[place - 1, window[place]].item()
                losses.setdefault(start + place, loss)
    assert result.tokens == len(losses) == 31 + (len(windows) - 1) * stride
    assert result.perplexity == pytest.approx(
        math.exp(sum(losses.values()) / len(losses)), rel=1e-5
    )
    found = list(losses.values())
    ends = [31 + stride * number for number in range(len(windows))]
    means = [
        sum(found[end - count : end]) / count
        for end, count in zip(ends, [31, *[stride] * (len(windows) - 1)], strict=True)
    ]
    assert result.window_losses == pytest.approx(means, rel=1e-5)


@pytest.mark.parametrize("stride", [32, 7])
@pytest.mark.parametrize("name", ["Llama", "Gemma 2", "Gemma 3", "GPT-2"])
def test_logits_in_parts_give_the_same(
    name: str, stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(FAMILIES[name].config)
    windows = random_windows(5, 32)
    windows[:, 0] = model.config.bos_token_id or 0  # which Gemma warns of else
    whole = perplexity(model, windows, stride=stride)
    heads: list[int] = []
    model.get_output_embeddings().register_forward_hook(
        lambda module, args, output: heads.append(output.numel())
    )
    blocks: list[int] = []
    next(iter(decoder_blocks(model).values())).register_forward_hook(
        lambda module, args, output: blocks.append(1)
    )
    limit = 4 * 5 * 3 * model.config.get_text_config().vocab_size  # of three tokens at a time
    monkeypatch.setattr(of_perplexity, "MOST_LOGITS", limit)
    monkeypatch.setattr(of_perplexity, "PART_OF_LOGITS", limit)
    parts = perplexity(model, windows, stride=stride)
    assert parts.window_losses == pytest.approx(whole.window_losses, rel=1e-5)
    assert (parts.tokens, parts.windows) == (whole.tokens, whole.windows)
    # The look at whether the model means anything comes first: it runs all once.
    assert max(heads[1:]) * 4 <= limit
    assert len(heads) == 1 + math.ceil(32 / 3)
    assert len(blocks) == 2
    assert "forward" not in vars(model.base_model)


def test_a_model_that_gives_no_parts_gives_all(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(llama_config())
    own = model.forward

    def whole(input_ids: Tensor, use_cache: bool = False) -> Any:
        return own(input_ids, use_cache=use_cache)

    expected = perplexity(model, random_windows())
    monkeypatch.setattr(of_perplexity, "MOST_LOGITS", 1)
    model.forward = whole
    assert perplexity(model, random_windows()) == expected


def test_the_longest_window_is_that_of_the_text_config() -> None:
    # Models of text and images nest the config of the text.
    config = Gemma3Config(text_config=Gemma3TextConfig(max_position_embeddings=16))
    model = random_model(llama_config())
    model.config = config
    with pytest.raises(ValueError, match="seqlen must be at most 16"):
        perplexity(model, random_windows(1, 17))


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
