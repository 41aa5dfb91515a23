"""Zeros are lost by fine-tuning, found missing by `thanos inspect`, and set again."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models import tiny
from tests.models.conftest import SMALL, Thanos
from thanos_torch.checkpoint.inspect import Zeros
from thanos_torch.checkpoint.shards import tensor_files
from thanos_torch.cli.checkpoints import _pattern_of
from thanos_torch.models import (
    MASKS,
    RECORD,
    HeldMasks,
    SeenLayer,
    load_model,
    read_masks,
    reapply_masks,
)


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory, dense: Path, thanos_once: Thanos) -> Path:
    out = tmp_path_factory.mktemp("pruned") / "out"
    assert thanos_once("prune", dense, "--pattern", "2:4", "--out", out, *SMALL).status == 0
    return out


def fine_tune(model: Any, hold: bool, folder: Path) -> None:
    """Three steps of AdamW on random tokens."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    if hold:
        optimizer.register_step_post_hook(HeldMasks(model, folder))
    windows = tiny.random_windows(2)
    for _ in range(3):
        optimizer.zero_grad()
        model(windows, labels=windows).loss.backward()
        optimizer.step()


def lost_zeros(model: Any, folder: Path) -> int:
    masks = read_masks(folder / MASKS)
    return sum(
        int((model.get_submodule(name).weight[mask.unpacked()] != 0).sum())
        for name, mask in masks.items()
    )


def test_masks_come_back_after_fine_tuning(pruned: Path) -> None:
    model = load_model(str(pruned)).model
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    assert reapply_masks(model, pruned) == 0
    fine_tune(model, hold=False, folder=pruned)
    lost = lost_zeros(model, pruned)
    assert lost > 1000
    assert reapply_masks(model, str(pruned)) == lost
    assert lost_zeros(model, pruned) == 0
    kept = model.model.layers[0].mlp.up_proj.weight
    old = before["model.layers.0.mlp.up_proj.weight"]
    assert ((kept != old) == (old != 0)).all()  # what fine-tuning taught stays


def test_a_hook_keeps_the_zeros_through_every_step(pruned: Path) -> None:
    model = load_model(str(pruned)).model
    before = model.lm_head.weight.clone()
    fine_tune(model, hold=True, folder=pruned)
    assert lost_zeros(model, pruned) == 0
    assert not torch.equal(model.lm_head.weight, before)


def test_a_kind_of_layers_shows_what_all_of_them_show() -> None:
    every = Zeros((2, 8), 8, 0, 0, ((2, 4),))
    one = Zeros((2, 8), 10, 0, 0, ((2, 4), (5, 8)))
    other = Zeros((2, 8), 8, 0, 0, ())
    group = [SeenLayer(str(n), seen, None, 0, ()) for n, seen in enumerate((every, one))]
    assert _pattern_of(group) == "2:4"
    assert _pattern_of(group[1:]) == "2:4, 5:8"
    assert _pattern_of([*group, SeenLayer("2", other, None, 0, ())]) == "differs"


def test_masks_that_do_not_fit_are_refused(pruned: Path, tmp_path: Path) -> None:
    other = tiny.random_model(tiny.llama_config(intermediate_size=32))
    with pytest.raises(ValueError, match=r"masks: model.layers.*mlp.* has the shape .* its mask"):
        reapply_masks(other, pruned)
    short = tiny.random_model(tiny.llama_config(num_hidden_layers=2))
    with pytest.raises(ValueError, match=r"masks: the model has no layer model.layers.2"):
        reapply_masks(short, pruned)
    with pytest.raises(ValueError, match=r"masks: there is no .*masks.safetensors"):
        reapply_masks(other, tmp_path)


def test_inspect_then_reapply_on_the_command_line(
    thanos: Thanos, pruned: Path, tmp_path: Path
) -> None:
    done = thanos("inspect", pruned)
    assert done.status == 0, done.out
    assert "All zeros hold." in done.out
    assert "Certificates passed when it was pruned: 21 of 21." in done.out
    row = next(line for line in done.out.splitlines() if "k_proj 8 x 16" in line)
    assert re.split("  +", row)[1:] == ["3", "50.00%", "2:4", "0"]

    tuned = tmp_path / "tuned"
    shutil.copytree(pruned, tuned)
    loaded = load_model(str(pruned))
    fine_tune(loaded.model, hold=False, folder=pruned)
    loaded.model.save_pretrained(tuned)
    (tuned / "old.bin").write_bytes(b"pickle")
    report = tmp_path / "report.json"
    done = thanos("inspect", tuned, "--layers", "--json", report)
    assert done.status == 1
    assert "NOT all that was pruned holds." in done.out
    assert "removed weights are not zero" in done.out
    found = json.loads(report.read_text())
    lost = sum(layer["lost"] for layer in found["layers"])
    assert lost == lost_zeros(loaded.model, pruned)
    assert found["holds"] is False

    again = tmp_path / "again"
    done = thanos("reapply", tuned, "--masks", pruned, "--out", again)
    assert done.status == 0
    assert f"{lost:,} removed weights in 21 of 21 layers were not zero" in done.out
    names = {file.name for file in again.iterdir()}
    assert {"config.json", MASKS, "tokenizer.json", "model.safetensors"} <= names
    assert not names & {RECORD, "old.bin"}
    assert lost_zeros(load_model(str(again)).model, pruned) == 0
    assert thanos("inspect", again).status == 0
    done = thanos("reapply", tuned, "--masks", pruned, "--out", again)
    assert done.status == 1
    assert "out must be a new or empty folder" in done.err


def spoil_record(folder: Path, change: Any) -> None:
    record = json.loads((folder / RECORD).read_text())
    change(record)
    (folder / RECORD).write_text(json.dumps(record))


def more_removed(folder: Path) -> None:
    spoil_record(folder, lambda record: record["layers"][3].update(removed=129))


def failed_certificate(folder: Path) -> None:
    spoil_record(folder, lambda record: record["layers"][3].update(verified=False))


def lost_mask(folder: Path) -> None:
    (folder / MASKS).unlink()


def one_weight(folder: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    file = tensor_files(folder)[name]
    weights = load_file(file)
    weight = weights[name]
    row, column = (weight == 0).nonzero()[0].tolist()
    weight[row, column] = 1e-30
    save_file(weights, file, metadata={"format": "pt"})


SPOILED: dict[str, tuple[Any, str]] = {
    "record": (more_removed, "its mask removes 128 weights, thanos.json says 129"),
    "certificate": (failed_certificate, "Certificates passed when it was pruned: 20 of 21."),
    "mask": (lost_mask, "masks.safetensors has no mask of it"),
    "weight": (one_weight, "layers.1.mlp.up_proj: 1 of 192 removed weights are not zero"),
    "pattern": (one_weight, "layers.1.mlp.up_proj: 1 rows break 2:4"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_inspect_finds_what_does_not_hold(
    thanos: Thanos, pruned: Path, tmp_path: Path, case: str
) -> None:
    spoil, message = SPOILED[case]
    shutil.copytree(pruned, tmp_path / "spoiled")
    spoil(tmp_path / "spoiled")
    done = thanos("inspect", tmp_path / "spoiled")
    assert done.status == 1
    assert message in done.out


def test_inspect_sees_the_patterns_of_others(thanos: Thanos, tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = {f"{kind}.weight": torch.randn(8, 32) for kind in "abcde"}
    for name, (n, m) in {"a": (2, 4), "c": (3, 8), "d": (1, 2)}.items():
        groups = weights[f"{name}.weight"].view(-1, m)
        groups.scatter_(1, torch.rand(groups.shape).argsort(dim=1)[:, :n], 0.0)
    weights["d.weight"][0] = 1.0  # an outlier row
    weights["b.weight"][:, 5:9] = 0
    weights["e.bias"] = torch.zeros(4)
    save_file({"a.weight": weights.pop("a.weight")}, tmp_path / "one.safetensors")
    save_file({n: w.bfloat16() for n, w in weights.items()}, tmp_path / "two.safetensors")
    done = thanos("inspect", tmp_path, "--layers")
    assert done.status == 0
    lines = done.out.splitlines()
    rows = [re.split("  +", line) for line in lines]
    seen = {row[0]: row[2:] for row in rows}
    assert seen["a"] == ["50.00%", "2:4", "0"]
    assert seen["b"] == ["12.50%", "4 zero columns", "0"]
    assert seen["c"] == ["37.50%", "3:8", "0"]
    assert seen["d"] == ["43.75%", "1:2, 1 dense rows", "0"]
    assert seen["e"] == ["0.00%", "0"]
    assert "There is no thanos.json" in done.out


def test_folders_that_are_no_checkpoints(thanos: Thanos, tmp_path: Path) -> None:
    assert "holds no weights: no .safetensors file" in thanos("inspect", tmp_path).err
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../a.safetensors"}}))
    assert "names a file outside of itself" in thanos("inspect", tmp_path).err
    index.write_text(json.dumps({"weight_map": {"a": "a.safetensors"}}))
    assert "a.safetensors cannot be read: it is missing" in thanos("inspect", tmp_path).err
    (tmp_path / "a.safetensors").write_bytes(b"rubbish")
    assert "a.safetensors cannot be read" in thanos("inspect", tmp_path).err
    index.write_text("[]")
    assert "is no index of safetensors files" in thanos("inspect", tmp_path).err
    (tmp_path / RECORD).write_text("{}")
    assert "is no record of a pruned model" in thanos("inspect", tmp_path).err
