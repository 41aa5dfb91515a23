"""Files beside the weights: all are passed on, links and adapters are refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tests.models import tiny
from tests.models.certifying.kept import change_json
from tests.models.conftest import SMALL, Thanos
from thanos_torch.checkpoint.shards import side_files
from thanos_torch.models import load_model, prune_model, save_checkpoint, stream_model

CODE = """
from transformers import LlamaConfig

class MyConfig(LlamaConfig):
    model_type = "my"
"""
MODEL = """
from transformers import LlamaForCausalLM
from .configuration_my import MyConfig

class MyModel(LlamaForCausalLM):
    config_class = MyConfig
"""
BESIDE = {
    "LICENSE": "free",
    "NOTICE": "read me",
    "configuration_my.py": CODE,
    "modeling_my.py": MODEL,
    "additional_chat_templates/tool_use.jinja": "{{ messages }}",
    "assets/deep/down/picture.PNG": "pixels",
    "vocabulary.tsv": "a\tb",
    ".gitattributes": "* text",
}
NOT_COPIED = {
    "pytorch_model.bin": "pickle",
    "pytorch_model.bin.index.json": "{}",
    "original/consolidated.00.pth": "pickle",
    "onnx/model.onnx": "weights",
    "flax_model.MSGPACK": "weights",
    ".git/config": "[core]",
    ".cache/huggingface/notes": "cached",
    "__pycache__/modeling_my.pyc": "bytes",
}
PRUNE = ("--pattern", "2:4", "--method", "magnitude", *SMALL)


def write_all(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


@pytest.fixture
def full(tmp_path: Path, dense: Path) -> Path:
    """A native model that brings code of its own, a licence and more."""
    folder = tmp_path / "full"
    shutil.copytree(dense, folder)
    write_all(folder, BESIDE | NOT_COPIED)
    codes = {"AutoConfig": "configuration_my.MyConfig"}
    codes["AutoModelForCausalLM"] = "modeling_my.MyModel"
    change_json(folder / "config.json", auto_map=codes)
    return folder


def refuse_other_files(out: Path) -> None:
    for name, content in BESIDE.items():
        assert (out / name).read_text() == content
    assert not [name for name in NOT_COPIED if (out / name).exists()]


def test_whatever_holds_no_weights_is_copied(thanos: Thanos, full: Path, tmp_path: Path) -> None:
    out, again, grams = tmp_path / "out", tmp_path / "again", tmp_path / "grams"
    done = thanos("prune", full, "--out", out, "--keep-gram", grams, *PRUNE)
    assert done.status == 0, done.err
    refuse_other_files(out)
    done = thanos("certify", full, out, "--gram", grams, "--json", tmp_path / "report.json")
    assert done.status == 0, done.out
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["by_design"].keys() >= NOT_COPIED.keys()
    assert thanos("reapply", out, "--masks", out, "--out", again).status == 0
    refuse_other_files(again)
    (again / "adapter_config.json").write_text("{}")
    done = thanos("reapply", again, "--masks", out, "--out", tmp_path / "third")
    assert "adapter_config.json makes the folder an adapter's" in done.err
    # `auto_map` finds its code.
    build: Any = AutoModelForCausalLM
    for folder in (full, out):
        held = build.from_pretrained(folder, trust_remote_code=True)
        assert type(held).__name__ == "MyModel"


def test_a_saved_model_has_all_files_of_the_one_it_came_from(full: Path, tmp_path: Path) -> None:
    loaded = load_model(str(full))
    report = prune_model(loaded.model, tiny.random_windows(), "2:4", judge=None)
    save_checkpoint(loaded, tmp_path / "out", record=report.as_dict(), masks=report.masks)
    refuse_other_files(tmp_path / "out")


def test_results_inside_a_model_are_no_part_of_it(full: Path) -> None:
    before = side_files(full)
    write_all(full, {"results/one/config.json": "{}", "results/two/config.json": "{}"})
    assert side_files(full, full / "results" / "one") == sorted(
        [*before, "results/two/config.json"]
    )


@pytest.mark.parametrize("target", ["assets", "/etc", "nowhere"])
def test_links_to_no_file_are_refused(
    thanos: Thanos, full: Path, tmp_path: Path, target: str
) -> None:
    (full / "more").symlink_to(target)
    done = thanos("prune", full, "--out", tmp_path / "out", *PRUNE)
    assert done.status == 1
    assert f"{full / 'more'} is" in done.err
    assert not list(tmp_path.glob("out*"))


def test_an_adapter_in_the_folder_is_refused_by_its_name(
    thanos: Thanos, dense: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(dense, bad)
    (bad / "adapter_config.json").write_text("{}")
    save_file({"q_proj.lora_A.weight": torch.ones(2, 16)}, bad / "adapter_model.safetensors")
    out = ("--out", tmp_path / "out")
    for command in (
        ("prune", bad, *out, *PRUNE),
        ("prune", bad, "--dry-run", *PRUNE),
        ("inspect", bad),
        ("certify", bad, dense, "--gram", dense, "--pattern", "2:4"),
    ):
        done = thanos(*command)
        assert done.status == 1
        assert "adapter_config.json makes the folder an adapter's: merge" in done.err, command
    for load in (load_model, stream_model):
        with pytest.raises(ValueError, match=r"could not be loaded: .*/adapter_config.json makes"):
            load(str(bad))


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_quantised_results_are_one_line_for_every_command(
    thanos: Thanos, dense: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    """Such as somebody makes of a pruned checkpoint afterwards."""
    out, more = tmp_path / "out", ("--out", tmp_path / "more")
    assert thanos("prune", dense, "--out", out, *PRUNE).status == 0
    shard = out / "model.safetensors"
    weights = load_file(shard)
    save_file(weights | {n: v.to(dtype) for n, v in weights.items() if v.dim() > 1}, shard)
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copyfile(shard, bare / "model.safetensors")
    for command in (
        ("inspect", out),
        ("inspect", bare),
        ("reapply", out, "--masks", out, *more),
        ("pack", out, *more),
        ("certify", out, dense, "--gram", out, "--pattern", "2:4"),
        ("eval", out),
    ):
        done = thanos(*command)
        assert done.status == 1, command
        assert str(dtype) in done.err, command
        assert len(done.err.strip().splitlines()) == 1, done.err
    assert not list(tmp_path.glob("more*"))


def test_models_of_a_hub_are_looked_at_as_folders_are(
    thanos: Thanos, full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "hub"
    snapshot = cache / "models--some--model" / "snapshots" / ("a" * 40)
    shutil.copytree(full, snapshot)
    (cache / "models--some--model" / "refs").mkdir()
    (cache / "models--some--model" / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    done = thanos("prune", "some/model", "--out", tmp_path / "out", *PRUNE)
    assert done.status == 0, done.err
    refuse_other_files(tmp_path / "out")
    weights = load_file(snapshot / "model.safetensors")
    weights["lm_head.weight"] = weights["lm_head.weight"].to(torch.int8)
    save_file(weights, snapshot / "model.safetensors", metadata={"format": "pt"})
    for how in (("--out", tmp_path / "bad"), ("--dry-run",)):
        done = thanos("prune", "some/model", *how, *PRUNE)
        assert done.status == 1
        assert "lm_head.weight holds torch.int8, which cannot be pruned" in done.err
