"""Saved models: the same zeros, the same logits, all of it or nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.models import tiny
from thanos_torch import Unstructured
from thanos_torch.checkpoint.masks import Place, read_places, write_masks
from thanos_torch.models import (
    MASKS,
    RECORD,
    LoadedModel,
    ModelReport,
    PackedMask,
    load_model,
    prune_model,
    read_masks,
    save_checkpoint,
)
from thanos_torch.runtime.files import new_folder, refuse_unusable, stamp

SETTINGS = {"pattern": "unstructured:0.5", "seed": 0, "shape": (1, 2)}


def pruned(folder: Path, dtype: torch.dtype = torch.float32) -> tuple[LoadedModel, ModelReport]:
    """A pruned model that came from the checkpoint `folder`."""
    loaded = load_model(
        str(tiny.save_checkpoint(tiny.random_model(tiny.llama_config(), dtype), folder))
    )
    report = prune_model(
        loaded.model, tiny.random_windows(), Unstructured(0.5), judge=None, block_size=8
    )
    return loaded, report


def save(loaded: LoadedModel, report: ModelReport, out: Path) -> None:
    record = {"settings": SETTINGS, "model": loaded.provenance(), **report.as_dict()}
    save_checkpoint(loaded, out, record=record, masks=report.masks)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_zeros_and_logits_come_back(tmp_path: Path, dtype: torch.dtype) -> None:
    loaded, report = pruned(tmp_path / "dense", dtype)
    save(loaded, report, tmp_path / "out")

    again: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert not again.training
    assert again.dtype == dtype
    masks = read_masks(tmp_path / "out" / MASKS)
    assert set(masks) == {record.name for record in report.layers}
    for record in report.layers:
        weight = again.get_submodule(record.name).weight
        mask = masks[record.name].unpacked()
        assert mask.sum() == record.removed == weight.numel() // 2
        assert (weight == 0)[mask].all()
        assert torch.equal(weight == 0, loaded.model.get_submodule(record.name).weight == 0)
    windows = tiny.random_windows()
    assert torch.equal(again(windows).logits, loaded.model(windows).logits)


def test_a_checkpoint_is_plain_and_its_config_untouched(tmp_path: Path) -> None:
    loaded, report = pruned(tmp_path / "dense")
    config = tmp_path / "dense" / "config.json"
    config.write_text(config.read_text() + "\n\n")  # recognisable, byte for byte
    save(loaded, report, tmp_path / "out")
    assert (tmp_path / "out" / "config.json").read_bytes() == config.read_bytes()
    files = {file.name for file in (tmp_path / "out").iterdir()}
    assert files >= {"model.safetensors", "generation_config.json", "tokenizer.json", MASKS, RECORD}
    origin = load_model(str(tmp_path / "out")).origin
    assert origin == "checkpoint folder dense, pruned by thanos to unstructured:0.5"
    assert load_model(str(tmp_path / "dense")).origin == "checkpoint folder dense"


def test_a_checkpoint_that_loads_as_another_model_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, report = pruned(tmp_path / "dense")
    original = loaded.model.save_pretrained

    def save_and_go_on(folder: Path, **options: Any) -> None:
        original(folder, **options)
        loaded.model.model.layers[1].mlp.up_proj.weight.data[0, 0] += 1

    monkeypatch.setattr(loaded.model, "save_pretrained", save_and_go_on)
    with pytest.raises(ValueError, match=r"layers.1.mlp.up_proj.weight is not the same after"):
        save(loaded, report, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    file = tmp_path / "full" / "file"
    file.write_text("precious")
    for out in (tmp_path / "full", file, file / "out"):
        with pytest.raises(ValueError, match=r"out must be a new .*folder, got .*full"):
            refuse_unusable(out)
    refuse_unusable(tmp_path / "several" / "levels" / "down")


def test_a_new_folder_appears_at_once_or_never(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()  # an empty folder is as good as none
    with new_folder(target) as partial:
        (partial / "file").write_text("all of it")
        assert not list(target.iterdir())
    assert (target / "file").read_text() == "all of it"
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "other"):
        raise KeyboardInterrupt
    assert [entry.name for entry in tmp_path.iterdir()] == ["target"]


def test_a_stamp_changes_with_the_files(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("text")
    stamps = [stamp(file), stamp(tmp_path)]
    assert stamps == [stamp(file), stamp(tmp_path)]
    file.write_text("longer text")
    assert stamp(file) != stamps[0]
    assert stamp(tmp_path) != stamps[1]


PLACE = Place(("a.weight", "b.weight"))


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (4, 8)])
def test_masks_come_back_from_a_folder_or_a_file(tmp_path: Path, shape: tuple[int, int]) -> None:
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.5
    write_masks(tmp_path / MASKS, {"layer": PackedMask.of(mask)}, {"layer": PLACE})
    for source in (tmp_path, tmp_path / MASKS, str(tmp_path)):
        assert read_places(source) == {"layer": PLACE}
        packed = read_masks(source)["layer"]
        assert torch.equal(packed.unpacked(), mask)
        assert packed.bits.tolist() == np.packbits(mask.numpy()).tolist()


def test_equal_masks_are_equal_files(tmp_path: Path) -> None:
    masks = {name: PackedMask.of(torch.ones(2, 3) > 0) for name in "ba"}
    for number in range(16):  # safetensors itself orders metadata at random
        write_masks(tmp_path / str(number), masks, {"a": PLACE})
    assert len({file.read_bytes() for file in tmp_path.iterdir()}) == 1


def test_damaged_masks_are_refused(tmp_path: Path) -> None:
    mask = PackedMask(torch.zeros(1, dtype=torch.uint8), (3, 5))
    write_masks(tmp_path / MASKS, {"layer": mask}, {})
    with pytest.raises(ValueError, match=r"masks.safetensors is damaged: the mask of layer does"):
        read_masks(tmp_path)
    (tmp_path / MASKS).write_bytes(b"rubbish")
    for read in (read_masks, read_places):
        with pytest.raises(ValueError, match=r"masks.safetensors"):
            read(tmp_path)
