"""Models of text and images or sound: their language blocks are pruned, the rest stays as it is."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.models import tiny
from tests.models.conftest import SMALL, Thanos
from tests.models.towers import TOWERED
from thanos_torch.models import (
    load_model,
    load_packed,
    prune_model,
    read_masks,
    reapply_masks,
    save_checkpoint,
    stream_model,
)
from thanos_torch.network.layers import model_layers

WEIGHTS = "model.safetensors"
# These show the three ways of Transformers to join towers and names; the others take longer.
QUICK = ("Llava", "Qwen2.5-VL", "Qwen2-Audio")
EACH = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.long, id=name) for name in TOWERED
]


def saved(name: str, folder: Path) -> tuple[Any, Path]:
    """A model and its checkpoint, with the file of a processor."""
    model = TOWERED[name].model()
    tiny.save_checkpoint(model, folder)
    (folder / "preprocessor_config.json").write_text('{"size": 28}')
    return model, folder


def stored(folder: Path) -> dict[str, Tensor]:
    files = [file for file in folder.glob("*.safetensors") if file.name != "masks.safetensors"]
    return {name: value for file in files for name, value in load_file(file).items()}


@pytest.mark.parametrize("name", EACH)
def test_the_language_blocks_are_pruned_and_nothing_else(
    thanos: Thanos, tmp_path: Path, name: str
) -> None:
    model, dense = saved(name, tmp_path / "dense")
    options = ("--pattern", "2:4", "--method", "magnitude", *SMALL)
    assert thanos("prune", dense, *options, "--dry-run").status == 0
    done = thanos("prune", dense, *options, "--out", tmp_path / "out")
    assert (done.status, done.said) == (0, "")

    masks = read_masks(tmp_path / "out")
    blocks = TOWERED[name].blocks
    assert {layer.removeprefix(blocks)[:3] for layer in masks} == {".0.", ".1."}
    before, after = stored(dense), stored(tmp_path / "out")
    assert before.keys() == after.keys()
    changed = [each for each in before if not torch.equal(before[each], after[each])]
    assert len(changed) == len({layer.stored for layer in model_layers(model).values()})
    assert masks.keys() == model_layers(model).keys()
    assert json.loads((tmp_path / "out/preprocessor_config.json").read_text()) == {"size": 28}

    kind: Any = type(model)
    seen = "pixel_values" in TOWERED[name].inputs()
    automatic: Any = hf.AutoModelForImageTextToText if seen else hf.AutoModelForMultimodalLM
    pruned = automatic.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    assert type(pruned) is kind
    reapply_masks(model, masks)  # all that magnitude pruning does
    with torch.no_grad():
        inputs = TOWERED[name].inputs()
        assert torch.equal(pruned(**inputs).logits, model(**inputs).logits)


def test_every_command_takes_a_model_with_a_tower(thanos: Thanos, tmp_path: Path) -> None:
    model, dense = saved("Llava", tmp_path / "dense")
    out, packed, gram = tmp_path / "out", tmp_path / "packed", tmp_path / "gram"
    text = ("--dataset", tiny.TEXT, "--seqlen", 32, "--max-windows", 2)
    for command in (
        ("prune", dense, "--pattern", "structured:0.5", *SMALL, "--keep-gram", gram, "--out", out),
        ("inspect", out),
        ("certify", dense, out, "--gram", gram),
        ("eval", out, *text),
        ("pack", out, "--out", packed, "--form", "compact"),
        ("unpack", packed, "--out", tmp_path / "unpacked"),
        ("reapply", out, "--masks", out, "--out", tmp_path / "again"),
    ):
        assert thanos(*command).status == 0, command
    result = stored(out)
    for folder in ("unpacked", "again"):
        found = stored(tmp_path / folder)
        assert found.keys() == result.keys()
        assert all(torch.equal(found[name], result[name]) for name in result)

    loaded, (_, streamed) = load_model(str(out)), stream_model(str(out))
    running = load_packed(packed)
    assert type(loaded.model) is type(streamed.model) is type(running.loaded.model) is type(model)
    assert len(running.compact) == 14
    report = prune_model(loaded.model, tiny.random_windows() % 200, "1:2", block_size=8)
    save_checkpoint(
        loaded,
        tmp_path / "saved",
        record=report.as_dict(),
        masks={layer.name: report.masks[layer.name] for layer in report.layers},
    )
    assert stored(tmp_path / "saved").keys() == result.keys()
    assert (tmp_path / "saved/preprocessor_config.json").exists()


@pytest.mark.parametrize("version", ["older", "in memory"])
def test_a_checkpoint_keeps_the_names_of_its_tensors(
    thanos: Thanos, tmp_path: Path, version: str
) -> None:
    model, dense = saved("Llava", tmp_path / "dense")
    assert any(name.startswith("language_model.model.") for name in stored(dense))
    if version == "in memory":
        own = {name: value.clone() for name, value in model.state_dict().items()}
        assert any(name.startswith("model.language_model.") for name in own)
        save_file(own, dense / WEIGHTS, {"format": "pt"})
    done = thanos("prune", dense, "--pattern", "2:4", *SMALL, "--out", tmp_path / "out")
    assert done.status == 0
    assert stored(tmp_path / "out").keys() == stored(dense).keys()
    build: Any = type(model)
    pruned, info = build.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    weight = pruned.model.language_model.layers[1].mlp.down_proj.weight
    assert (weight == 0).float().mean() == 0.5


def test_experts_stored_inputs_first_stay_so(thanos: Thanos, tmp_path: Path) -> None:
    _, dense = saved("Qwen3-VL-MoE", tmp_path / "dense")
    turned = {
        name: value.mT.contiguous() if ".experts." in name else value
        for name, value in stored(dense).items()
    }
    save_file(turned, dense / WEIGHTS, {"format": "pt"})
    gram, out = tmp_path / "gram", tmp_path / "out"
    options = ("--pattern", "2:4", *SMALL, "--allow-partial", "--keep-gram", gram)
    thanos("prune", dense, *options, "--out", out)
    assert {name: value.shape for name, value in stored(out).items()} == {
        name: value.shape for name, value in turned.items()
    }
    for command in (("inspect", out), ("certify", dense, out, "--gram", gram)):
        assert thanos(*command).status == 0, command
