"""Windows with padding: no padding enters a Gram matrix, a router's statistics, or a loss."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BatchEncoding, GPT2Config

from tests.models import tiny
from tests.models.families import FAMILIES
from tests.models.processes import on_ranks
from tests.models.tiny import WORDS, grams_by_hooks, random_model, random_windows
from thanos_torch.models import Ranks, perplexity, prune_checkpoint, prune_model, stream_model
from thanos_torch.network.layers import model_layers

LENGTHS = (32, 5, 17, 32, 1, 5)
PAD = WORDS + 3  # beyond the vocabulary, as some tokenizers' padding is


def padded(side: str, lengths: tuple[int, ...] = LENGTHS) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Windows with padding, their mask, and the same windows without."""
    whole = [row[:length] for row, length in zip(random_windows(6), lengths, strict=True)]
    ids = torch.full((len(lengths), 32), PAD)
    mask = torch.zeros(len(lengths), 32, dtype=torch.long)
    for row, window in enumerate(whole):
        # "both": some in front, the rest behind
        free = 32 - len(window)
        first = {"left": free, "right": 0, "both": free // 2}[side]
        ids[row, first : first + len(window)] = window
        mask[row, first : first + len(window)] = 1
    return ids, mask, whole


def summed(model: nn.Module, windows: list[Tensor], names: list[str]) -> dict[str, Tensor]:
    """Gram matrices of a plain loop over windows without padding."""
    grams: dict[str, Tensor] = {}
    for window in windows:
        for name, gram in grams_by_hooks(model, window[None], names).items():
            grams[name] = grams.get(name, 0) + gram
    return grams


@pytest.mark.parametrize("side", ["left", "right", "both"])
@pytest.mark.parametrize("family", ["Llama", "GPT-2", "OPT", "Mixtral", "Gemma 3"])
def test_no_padding_enters_a_gram_matrix(family: str, side: str) -> None:
    model = random_model(FAMILIES[family].config)
    ids, mask, whole = padded(side)
    names = list(model_layers(model))
    first = [name for name in names if name.startswith(f"{FAMILIES[family].blocks}.0.")]
    expected = summed(model, whole, first)
    grams: dict[str, Tensor] = {}
    report = prune_model(
        model,
        ids,
        "2:4",
        attention_mask=mask,
        on_layer=lambda seen: grams.update({seen.name: seen.gram}),
    )
    assert report.verified
    assert grams.keys() >= expected.keys()
    # The second block's attention reads what the pruned first block returns.
    last = [name for name in names if name not in first and name.endswith(("q_proj", "c_attn"))]
    for name, gram in (expected | summed(model, whole, last)).items():
        assert (grams[name].double() - gram).abs().max() < 1e-5 * gram.abs().max(), name


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_result_is_that_of_windows_without_padding(side: str) -> None:
    ids, mask, whole = padded(side, (20,) * 6)
    config = FAMILIES["Mixtral"].config
    one, other = random_model(config), random_model(config)
    prune_model(one, ids, "2:4", judge=None, attention_mask=mask.bool())
    prune_model(other, torch.stack(whole), "2:4", judge=None)
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name]), name


@pytest.mark.parametrize("side", ["left", "right", "both"])
@pytest.mark.parametrize("family", ["Llama", "GPT-2", "OPT", "Mixtral"])
def test_no_padding_is_scored(family: str, side: str) -> None:
    model = random_model(FAMILIES[family].config)
    ids, mask, whole = padded(side, (32, 5, 17, 32, 2, 5))
    result = perplexity(model, ids, attention_mask=mask)
    losses = []
    with torch.no_grad():
        for window in whole:
            odds = model(window[None]).logits[0].double().log_softmax(-1)
            places = range(1, len(window))
            losses.append([-odds[place - 1, window[place]].item() for place in places])
    every = [loss for window in losses for loss in window]
    assert result.tokens == len(every) == mask.sum() - 6
    assert result.perplexity == pytest.approx(math.exp(sum(every) / len(every)), rel=1e-5)
    by_window = [sum(window) / len(window) for window in losses]
    assert result.window_losses == pytest.approx(by_window, rel=1e-5)  # in the order given


def test_a_mask_of_ones_changes_nothing() -> None:
    model, windows = random_model(tiny.llama_config()), random_windows(70)
    masked = perplexity(model, windows, attention_mask=torch.ones_like(windows))
    assert masked == perplexity(model, windows)


def test_ranks_share_padded_windows(tmp_path: Any) -> None:
    ids, mask, _ = padded("left")

    def work(ranks: Ranks) -> dict[str, Tensor]:
        model = random_model(tiny.llama_config())
        prune_model(model, ids, "2:4", judge=None, attention_mask=mask, ranks=ranks)
        return dict(model.state_dict())

    alone = work(Ranks())
    for weights in on_ranks(3, work, tmp_path):
        for name, weight in weights.items():
            assert torch.allclose(weight, alone[name], atol=1e-4), name


def test_a_streamed_run_resumes_only_with_its_mask(dense: Any, tmp_path: Any) -> None:
    ids, mask, _ = padded("right")
    kept: list[str] = []

    def prune(mask: Tensor, *, end: bool) -> dict[str, Any]:
        def look(layer: Any) -> None:
            kept.append(layer.name)
            if end and len(kept) == 9:  # in the second block
                raise OSError("the disk is full")

        return prune_checkpoint(
            stream_model(str(dense))[1],
            ids,
            "2:4",
            tmp_path / "out",
            judge=None,
            record={"settings": {}},
            on_layer=look,
            attention_mask=mask,
        )

    with pytest.raises(OSError, match="the disk is full"):
        prune(mask, end=True)
    other = mask.clone()
    other[1, 4] = 0
    with pytest.raises(ValueError, match="holds an unfinished run that differs: data: another one"):
        prune(other, end=False)
    record = prune(mask, end=False)
    assert kept.count(kept[0]) == 1
    model = random_model(tiny.llama_config())
    report = prune_model(model, ids, "2:4", judge=None, attention_mask=mask)
    found = [layer["relative_error"] for layer in record["layers"]]
    assert found == [layer.relative_error for layer in report.layers]


def holes() -> Tensor:
    mask = torch.ones(2, 8, dtype=torch.long)
    mask[1, 3] = 0
    return mask


REFUSED: list[tuple[Any, str]] = [
    ([[1] * 8] * 2, "a tensor of integers 0 and 1, or of booleans, got list"),
    (torch.ones(2, 8), "or of booleans, got torch.float32"),
    (torch.ones(8, dtype=torch.long), r"the shape of windows, \(2, 8\), got \(8,\)"),
    (torch.ones(2, 9, dtype=torch.bool), r"the shape of windows, \(2, 8\), got \(2, 9\)"),
    (torch.full((2, 8), 2), "must hold 0 and 1, got 2"),
    (torch.full((2, 8), -1), "must hold 0 and 1, got -1"),
    (torch.tensor([[1] * 8, [0] * 8]), "leaves window 1 no token"),
    (torch.ones(2, 8, dtype=torch.long, device="meta"), "a plain tensor .* without content"),
    (holes(), "0 before or behind the tokens of a window, and has it between those of window 1"),
]


@pytest.mark.parametrize(("mask", "message"), REFUSED, ids=range(len(REFUSED)))
def test_masks_that_are_none(mask: Any, message: str) -> None:
    model, windows = random_model(tiny.llama_config()), random_windows(2, 8)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with pytest.raises(ValueError, match=f"^attention_mask .*{message}"):
        prune_model(model, windows, "2:4", judge=None, attention_mask=mask)
    with pytest.raises(ValueError, match=f"^attention_mask .*{message}"):
        perplexity(model, windows, attention_mask=mask)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_what_padded_windows_cannot_have() -> None:
    model, windows = random_model(tiny.llama_config()), random_windows(2, 8)
    mask = torch.ones_like(windows)
    with pytest.raises(ValueError, match="stride must not be given with an attention_mask, got 4"):
        perplexity(model, windows, stride=4, attention_mask=mask)
    mask[1, 1:] = 0
    with pytest.raises(ValueError, match="must leave at least 2 tokens, and window 1 has 1"):
        perplexity(model, windows, attention_mask=mask)
    windows[0, 0] = WORDS
    with pytest.raises(ValueError, match=f"token ids below {WORDS}"):
        perplexity(model, windows, attention_mask=torch.ones_like(windows))


def test_the_longest_window_counts_without_its_padding() -> None:
    model = random_model(
        GPT2Config(vocab_size=WORDS, n_positions=16, n_embd=16, n_layer=1, n_head=4)
    )
    ids, mask, _ = padded("right", (16, 5, 16, 9, 3, 5))
    assert perplexity(model, ids, attention_mask=mask).tokens == int(mask.sum()) - 6
    with pytest.raises(ValueError, match="seqlen must be at most 16 for this model, got 32"):
        perplexity(model, random_windows())


@pytest.mark.parametrize("kind", [dict, BatchEncoding])
def test_what_a_tokenizer_returns_is_named(kind: Any) -> None:
    model, windows = random_model(tiny.llama_config()), random_windows(2, 8)
    given = kind({"input_ids": windows, "attention_mask": torch.ones_like(windows)})
    message = f'got a {kind.__name__}: give its "input_ids", and its "attention_mask" as attention_'
    with pytest.raises(ValueError, match=message):
        prune_model(model, given, "2:4")
    with pytest.raises(ValueError, match=message):
        perplexity(model, given)
