"""The default model, end to end but short: its first two decoder blocks, a few tokens."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from thanos_torch.models import (
    DEFAULT_DATASET,
    MASKS,
    LoadedModel,
    calibration_windows,
    evaluation_windows,
    load_model,
    perplexity,
    prune_model,
    read_masks,
    save_checkpoint,
)


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load_model()


def first_blocks(loaded: LoadedModel, count: int) -> LoadedModel:
    """The same model without its later decoder blocks."""
    loaded.model.model.layers = loaded.model.model.layers[:count]
    loaded.model.config.num_hidden_layers = count
    loaded.model.config.layer_types = None
    return dataclasses.replace(loaded, config_file=None)  # the original's would not fit


def test_the_default_model(loaded: LoadedModel, tmp_path: Path) -> None:
    assert loaded.provenance() == {
        "source": "smollm2-135m",
        "origin": "SmolLM2-135M-Instruct, dequantised from Q4_1",
        "architecture": "LlamaForCausalLM",
        "dtype": "float32",
        "parameters": 134_515_008,
        "commit": None,
    }
    text = evaluation_windows(loaded.tokenizer, DEFAULT_DATASET, seqlen=512, limit=1)
    assert perplexity(loaded.model, text.ids).perplexity < 30  # 49,152 for a guesser

    short = first_blocks(loaded, 2)
    windows = calibration_windows(
        loaded.tokenizer, DEFAULT_DATASET, nsamples=2, seqlen=256, seed=0
    ).ids
    report = prune_model(short.model, windows, "2:4")
    assert report.verified
    assert len(report.layers) == 2 * 7
    assert report.sparsity == 0.5
    assert 0 < report.relative_error < 1

    record = {"settings": {}, "model": short.provenance(), **report.as_dict()}
    save_checkpoint(short, tmp_path / "out", record=record, masks=report.masks)
    again = load_model(str(tmp_path / "out"))
    assert again.origin.startswith("SmolLM2-135M-Instruct, dequantised from Q4_1, pruned by")
    for name, mask in read_masks(tmp_path / "out" / MASKS).items():
        weight = again.model.get_submodule(name).weight
        groups = mask.unpacked().view(len(weight), -1, 4)
        assert (groups.sum(dim=2) == 2).all()
        assert not weight.view_as(groups)[groups].any()
    with torch.no_grad():
        assert torch.equal(again.model(windows).logits, short.model(windows).logits)
    assert math.isfinite(perplexity(again.model, text.ids).perplexity)
