"""`--dtype`: what is written in another dtype, and what the judge says of it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from tests.models import tiny
from tests.models.certifying.kept import RECIPE, change, change_json
from tests.models.conftest import SMALL, Outcome, Thanos
from thanos_torch.checkpoint.converted import config_in
from thanos_torch.models import (
    RECORD,
    Asked,
    prune_checkpoint,
    prune_model,
    read_masks,
    read_record,
    stream_model,
)
from thanos_torch.models import load_model as load

WEIGHTS = "model.safetensors"
NORM = "model.layers.1.input_layernorm.weight"


class Case:
    """`thanos prune` and `thanos certify` in a folder with one model."""

    def __init__(self, thanos: Thanos, folder: Path) -> None:
        self._thanos, self.folder = thanos, folder
        self.dense, self.out, self.grams = (folder / name for name in ("dense", "out", "grams"))

    def prune(self, *more: object) -> Outcome:
        (self.folder / "recipe.toml").write_text(RECIPE)
        given = ("--recipe", self.folder / "recipe.toml", "--out", self.out)
        return self._thanos("prune", self.dense, *given, "--keep-gram", self.grams, *SMALL, *more)

    def certify(self, *more: object) -> Outcome:
        return self._thanos("certify", self.dense, self.out, "--gram", self.grams, *more)


@pytest.fixture
def case(thanos: Thanos, tmp_path: Path) -> Callable[..., Case]:
    def make(source: torch.dtype, changed: Callable[[Any], object] = lambda model: None) -> Case:
        model = tiny.random_model(tiny.llama_config(), source)
        with torch.no_grad():
            changed(model)
        made = Case(thanos, tmp_path)
        tiny.save_checkpoint(model, made.dense)
        return made

    return make


TARGETS = ("float32", "bfloat16", "float16")
PAIRS = [(f"float{bits}", target) for bits in (64, 32, 16) for target in TARGETS]
PAIRS += [("bfloat16", target) for target in TARGETS]
QUICK = {("float64", "float32"), ("float32", "float16"), ("bfloat16", "float16")}


@pytest.mark.parametrize(
    ("source", "target"),
    [pytest.param(*pair, marks=() if pair in QUICK else pytest.mark.long) for pair in PAIRS],
)
def test_everything_is_rounded_once_and_certified(
    case: Callable[..., Case], source: str, target: str
) -> None:
    made, kind = case(getattr(torch, source)), getattr(torch, target)
    assert made.prune("--dtype", target).status == 0
    done = made.certify()
    assert done.status == 0, done.out
    assert "20 of 20 layers passed." in done.out
    assert f"; all weights converted to {target}. Gram matrices" in done.out.splitlines()[0]
    assert f"WARNING, not the default: all weights converted to {target}" in done.out
    before, after = load_file(made.dense / WEIGHTS), load_file(made.out / WEIGHTS)
    assert before.keys() == after.keys()
    masks = read_masks(made.out)
    for name, weight in before.items():
        assert after[name].dtype == kind, name
        if name.removesuffix(".weight") in masks:
            removed = masks[name.removesuffix(".weight")].unpacked()
            assert (after[name][removed] == 0).all()
        else:
            assert torch.equal(after[name], weight.to(kind)), name
    loaded: Any = AutoModelForCausalLM
    assert loaded.from_pretrained(made.out).dtype == kind
    record = read_record(made.out)
    assert record is not None
    assert record["dtype"] == record["settings"]["dtype"] == target
    assert all(layer["stored_exactly"] for layer in record["layers"] if layer["options"])


def test_masks_are_chosen_from_the_weights_as_they_are(case: Callable[..., Case]) -> None:
    """The first block's result is that of the float32 model, rounded at the end."""
    made = case(torch.float32)
    _, streamed = stream_model(str(made.dense))
    windows = tiny.random_windows()
    prune_checkpoint(
        streamed, windows, "2:4", made.out, record={"settings": {}}, dtype=torch.bfloat16
    )
    model = load(str(made.dense)).model
    report = prune_model(model, windows, "2:4", judge=None)
    after = load_file(made.out / WEIGHTS)
    for name, mask in report.masks.items():
        if ".layers.0." in name:
            expected = model.get_submodule(name).weight.bfloat16()
            assert torch.equal(after[f"{name}.weight"], expected)
            assert torch.equal(read_masks(made.out)[name].bits, mask.bits)


def test_the_command_line_can_say_it_instead(case: Callable[..., Case]) -> None:
    made = case(torch.float32)
    assert made.prune("--dtype", "bfloat16").status == 0
    by_hand = ("--recipe", made.folder / "recipe.toml")
    assert made.certify(*by_hand, "--dtype", "bfloat16").status == 0
    silent = made.certify(*by_hand)
    assert silent.status == 1
    assert "FAILED: stored as bfloat16, the original as float32" in silent.out
    other = made.certify(*by_hand, "--dtype", "float16")
    assert other.status == 1
    assert "FAILED: stored as bfloat16, asked for as float16" in other.out
    assert "--dtype: needs --pattern or --recipe" in made.certify("--dtype", "bfloat16").err
    assert "got 'int8'" in made.certify(*by_hand, "--dtype", "int8").err


def next_number(weight: Tensor) -> Tensor:
    weight.view(torch.int16).flatten()[3] += 1
    return weight


def in_weights(name: str, how: Callable[[Tensor], Tensor]) -> Callable[[Path], object]:
    return lambda out: change(out / WEIGHTS, name, how)


def without_dtype(out: Path) -> None:
    content = json.loads((out / RECORD).read_text())
    del content["dtype"]
    (out / RECORD).write_text(json.dumps(content))


WANDA = "model.layers.0.self_attn.o_proj.weight"  # whose kept weights are only rounded
LEFT_DENSE = "model.layers.2.self_attn.v_proj.weight"
SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a norm": (in_weights(NORM, next_number), f"{NORM} was CHANGED"),
    "a layer left dense": (in_weights(LEFT_DENSE, next_number), f"{LEFT_DENSE} was CHANGED"),
    "a kept weight": (
        in_weights(WANDA, lambda weight: torch.where(weight == 0, weight, next_number(weight))),
        "model.layers.0.self_attn.o_proj FAILED: kept",
    ),
    "the embedding in float32": (
        in_weights("model.embed_tokens.weight", Tensor.float),
        "stored as float32, asked for as bfloat16",
    ),
    "config.json as it was": (
        lambda out: shutil.copy(out.parent / "dense" / "config.json", out),
        "config.json was CHANGED, though nobody asked for that: keys dtype",
    ),
    "config.json with more": (
        lambda out: change_json(out / "config.json", hidden_act="relu"),
        "config.json was CHANGED, though nobody asked for that: keys hidden_act",
    ),
    "thanos.json without it": (without_dtype, "stored as bfloat16, the original as float32"),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, thanos_once: Thanos) -> Case:
    made = Case(thanos_once, tmp_path_factory.mktemp("dtype"))
    tiny.save_checkpoint(tiny.random_model(tiny.llama_config()), made.dense)
    assert made.prune("--dtype", "bfloat16").status == 0
    return made


@pytest.mark.parametrize("name", SPOILED)
def test_what_is_not_the_rounded_original_is_named(
    written: Case, thanos: Thanos, tmp_path: Path, name: str
) -> None:
    shutil.copytree(written.folder, tmp_path, dirs_exist_ok=True)
    spoil, message = SPOILED[name]
    spoil(tmp_path / "out")
    found = Case(thanos, tmp_path).certify()
    assert found.status == 1
    assert message in " ".join(found.out.split())


def test_other_commands_take_it(written: Case, thanos: Thanos, tmp_path: Path) -> None:
    seen = thanos("inspect", written.out)
    assert (seen.status, "All zeros hold." in seen.out) == (0, True)
    again = written.prune("--dtype", "bfloat16")
    assert "holds the result of this very run already" in again.out
    assert "must be a new or empty folder" in written.prune().err
    assert "--dtype bfloat16" in (written.out / "README.md").read_text()
    packed, unpacked, reapplied = (tmp_path / name for name in ("packed", "unpacked", "reapplied"))
    assert thanos("pack", written.out, "--out", packed).status == 0
    assert thanos("unpack", packed, "--out", unpacked).status == 0
    assert thanos("reapply", written.out, "--masks", written.out, "--out", reapplied).status == 0
    for folder in (unpacked, reapplied):
        assert (folder / WEIGHTS).read_bytes() == (written.out / WEIGHTS).read_bytes()


def test_a_number_that_is_too_large_is_named_before_anything_is_written(
    case: Callable[..., Case],
) -> None:
    def enlarge(model: Any) -> None:
        model.model.layers[2].input_layernorm.weight[3] = -1e5

    made = case(torch.float32, enlarge)
    refused = made.prune("--dtype", "float16")
    assert refused.status == 1
    assert refused.err.strip().endswith(
        "model.layers.2.input_layernorm.weight holds -100000, which is too large for float16"
    )
    assert sorted(each.name for each in made.folder.iterdir()) == ["dense", "recipe.toml"]
    assert made.prune("--dtype", "bfloat16").status == 0  # which has room for it


def test_kept_weights_that_become_zero_are_no_removed_ones(
    case: Callable[..., Case], thanos: Thanos
) -> None:
    def shrink(model: Any) -> None:
        for block in model.model.layers:
            for each in (block.self_attn.q_proj, block.mlp.up_proj, block.self_attn.o_proj):
                each.weight[2] *= 1e-8
                each.weight[:, 1] *= 1e-6

    made = case(torch.float32, shrink)
    assert made.prune("--dtype", "float16").status == 0
    done = made.certify()
    assert done.status == 0, done.out
    after, masks = load_file(made.out / WEIGHTS), read_masks(made.out)
    for name in ("self_attn.k_proj", "self_attn.o_proj"):
        weight = after[f"model.layers.0.{name}.weight"]
        assert (weight[masks[f"model.layers.0.{name}"].unpacked()] == 0).all()
    gone = (after["model.layers.0.self_attn.o_proj.weight"] == 0).sum()
    assert gone > int(masks["model.layers.0.self_attn.o_proj"].unpacked().sum())
    seen = thanos("inspect", made.out)
    assert (seen.status, "All zeros hold." in seen.out) == (0, True)
    assert thanos("pack", made.out, "--out", made.folder / "packed").status == 0
    assert thanos("unpack", made.folder / "packed", "--out", made.folder / "again").status == 0


def test_another_dtype_is_another_run(case: Callable[..., Case], thanos: Thanos) -> None:
    made = case(torch.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THANOS_FAILPOINT", "finish:1:enospc")
        from thanos_torch.runtime import files

        files._begun.clear()
        assert "No space left" in made.prune("--dtype", "bfloat16").err
    assert "options dtype: bfloat16 there, auto here" in made.prune().err
    assert made.prune("--dtype", "bfloat16").status == 0


def test_a_dry_run_counts_what_is_written(case: Callable[..., Case], thanos: Thanos) -> None:
    made = case(torch.float32)
    given = ("prune", made.dense, "--pattern", "2:4", "--dry-run", "--seqlen", 32)
    size = sum(weight.nbytes for weight in load_file(made.dense / WEIGHTS).values())
    assert f"Weights to write: {size:,} bytes" in thanos(*given).out
    assert f"Weights to write: {size // 2:,} bytes" in thanos(*given, "--dtype", "bfloat16").out
    assert "must be one of auto, float32, bfloat16, float16, got 'float8'" in " ".join(
        thanos("prune", made.dense, "--pattern", "2:4", "--dtype", "float8").err.split()
    )


def test_mixed_checkpoints_end_in_one_dtype(case: Callable[..., Case]) -> None:
    made = case(torch.bfloat16)
    weights = load_file(made.dense / WEIGHTS)
    weights[NORM] = torch.rand(16, dtype=torch.float64)
    weights["model.embed_tokens.weight"] = torch.randn(256, 16)
    save_file(weights, made.dense / WEIGHTS, metadata={"format": "pt"})
    assert made.prune("--dtype", "float16").status == 0
    assert made.certify().status == 0
    after = load_file(made.out / WEIGHTS)
    assert {each.dtype for each in after.values()} == {torch.float16}
    assert torch.equal(after[NORM], weights[NORM].half())


CONFIGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "old": ({"torch_dtype": "float32", "a": 1}, {"torch_dtype": "bfloat16", "a": 1}),
    "none": ({"a": "é"}, {"a": "é", "dtype": "bfloat16"}),
    "inner": (
        {"dtype": "float32", "text_config": {"dtype": "float32"}, "vision_config": {"b": 1}},
        {"dtype": "bfloat16", "text_config": {"dtype": "bfloat16"}, "vision_config": {"b": 1}},
    ),
    "no configuration": (
        {"dtype": "float32", "other": {"dtype": "float32"}},
        {"dtype": "bfloat16", "other": {"dtype": "float32"}},
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_configuration_names_the_dtype(name: str) -> None:
    before, after = CONFIGS[name]
    content = json.dumps(before).encode()
    assert json.loads(config_in(content, torch.bfloat16)) == after
    assert config_in(content, None) == content
    said = json.dumps(after).encode()
    assert config_in(said, torch.bfloat16) == said


def test_python_names_what_is_wrong(case: Callable[..., Case]) -> None:
    made = case(torch.float32)
    _, streamed = stream_model(str(made.dense))
    with pytest.raises(ValueError, match=r"dtype must be one of .*, got 'float64'"):
        prune_checkpoint(
            streamed, tiny.random_windows(), "2:4", made.out, record={"settings": {}},
            dtype=torch.float64,
        )  # fmt: skip
    with pytest.raises(ValueError, match="dtype must be one of"):
        Asked.by_record("x", {"layers": [], "dtype": "int8"})
