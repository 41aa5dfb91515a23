"""The command and `prune_model` prune the same models, to the same bits, and refuse the same."""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import nn

from tests.models import observed, tiny
from tests.models.conftest import SMALL, Thanos
from thanos_torch import parse_pattern
from thanos_torch.models import (
    HeldMasks,
    LayerOptions,
    Rules,
    calibration_windows,
    load_model,
    pack_checkpoint,
    prune_model,
)
from thanos_torch.pruning.cost import Speed

Saved = Callable[[Path], Path]


def saved(build: Callable[[], Any]) -> Saved:
    return lambda folder: tiny.save_checkpoint(build(), folder)


def random(config: Callable[[], Any]) -> Saved:
    return saved(lambda: tiny.random_model(config()))


def own(body: str) -> Saved:
    return lambda folder: observed.own_code(folder, body)


SHARED = "*shared_transformer*"
PRUNED: dict[str, tuple[Saved, tuple[str, ...]]] = {
    "Gemma 3n": (saved(observed.gemma3n_model), ()),
    "Gemma 4": (random(observed.gemma4), ()),
    "XLM": (random(observed.xlm), ()),
    "Mamba": (random(observed.mamba), ()),
    "Zamba2": (random(observed.zamba2), (SHARED,)),
    "CPM-Ant": (random(observed.cpmant), ()),
    "ModernBERT decoder": (random(observed.modern_bert_decoder), ()),
    "token 50 in front": (own("token 50 in front"), ()),
    "rows by themselves": (own("rows by themselves"), ()),
    "no maximum length": (
        random(lambda: tiny.llama_config(max_position_embeddings=-1, num_hidden_layers=1)), ()
    ),
}  # fmt: skip
TRUSTED = ("--trust-remote-code",)


@pytest.fixture(autouse=True)
def quick_dry_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring the machine takes a second."""
    monkeypatch.setattr("thanos_torch.cli.prune_tables.measure_speed", lambda: Speed(1e9, 1e9, 1e9))


@pytest.mark.parametrize("case", PRUNED)
def test_the_command_and_the_function_prune_alike(
    thanos: Thanos, tmp_path: Path, case: str
) -> None:
    save, exclude = PRUNED[case]
    dense = save(tmp_path / "dense")
    options = [part for glob in exclude for part in ("--exclude", glob)]
    command = ("prune", dense, "--pattern", "1:2", "--n-counts-zeros", *SMALL, *options, *TRUSTED)
    planned = thanos(*command, "--dry-run")
    assert planned.status == 0, planned.err
    done = thanos(*command, "--out", tmp_path / "out")
    assert done.status == 0, done.err
    assert "every layer certified" in done.out

    loaded = load_model(str(dense), trust_remote_code=True)
    windows = calibration_windows(
        loaded.tokenizer, str(tiny.TEXT), nsamples=4, seqlen=32, seed=0
    ).ids
    rules = Rules(LayerOptions(parse_pattern("1:2"), block_size=8), exclude=exclude)
    before = copy.deepcopy(loaded.model.state_dict())
    report = prune_model(loaded.model, windows, rules, judge=None)
    found = load_model(str(tmp_path / "out"), trust_remote_code=True).model.state_dict()
    changed = 0
    for name, weight in loaded.model.state_dict().items():
        assert torch.equal(found[name], weight), name
        changed += not torch.equal(weight, before[name])
    assert changed >= sum(record.removed > 0 for record in report.layers)


REFUSED: dict[str, tuple[Saved, str]] = {
    "Mllama": (saved(observed.mllama_model), "does not run its decoder block 1"),
    "Zamba2": (random(observed.zamba2), "share one weight, which cannot be pruned"),
    "looped": (own("looped"), "runs its decoder block 0 2 times in one forward pass"),
    "raises": (own("raises"), "cannot run to its first block: KeyError: 'nothing'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_command_a_dry_run_and_the_function_refuse_alike(
    thanos: Thanos, tmp_path: Path, case: str
) -> None:
    save, message = REFUSED[case]
    dense = save(tmp_path / "dense")
    command = ("prune", dense, "--pattern", "1:2", "--n-counts-zeros", *SMALL, *TRUSTED)
    for last in (("--dry-run",), ("--out", tmp_path / "out")):
        done = thanos(*command, *last)
        assert (done.status, message in done.err) == (1, True), done.err
        assert "Traceback" not in done.err
    assert [entry.name for entry in tmp_path.iterdir()] == ["dense"]
    model = load_model(str(dense), trust_remote_code=True).model
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=message):
        tiny.prune(model, "1:2")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("source", ["config.json", "model.safetensors", "x", "/none/of/these"])
def test_what_is_no_model_is_refused_alike(
    thanos: Thanos, dense: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(dense)
    said = [
        thanos("prune", source, "--pattern", "2:4", *last).err
        for last in (("--dry-run",), ("--out", "out"))
    ]
    assert said[0] == said[1]
    assert said[0].startswith("thanos: model ")


def test_what_cannot_be_copied_is_refused_alike(
    thanos: Thanos, dense: Path, tmp_path: Path
) -> None:
    shutil.copytree(dense, tmp_path / "dense")
    (tmp_path / "dense" / "link").symlink_to(tmp_path)
    for last in (("--dry-run",), ("--out", tmp_path / "out")):
        done = thanos("prune", tmp_path / "dense", "--pattern", "2:4", *SMALL, *last)
        assert "dense/link is a link to a file outside of its folder" in done.err


def offloaded(model: Any) -> None:
    """As `device_map` leaves a model whose weights do not fit."""
    from accelerate import cpu_offload

    cpu_offload(model.model.layers[1], offload_buffers=False)


def sharded(model: Any) -> None:
    """As ZeRO-3 leaves it."""
    weight = model.model.layers[1].mlp.up_proj.weight
    weight.data, weight.ds_id = torch.empty(0), 7


def fully_sharded(model: Any) -> None:
    class FullyShardedDataParallel(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, *args: Any, **options: Any) -> Any:
            return self.module(*args, **options)

    model.model.layers[1] = FullyShardedDataParallel(model.model.layers[1])


PARTS: dict[str, tuple[Callable[[Any], None], str]] = {
    "offloaded": (offloaded, r"^model: model.layers.1.self_attn.q_proj.weight is not in memory"),
    "ZeRO": (sharded, r"^model: model.layers.1.mlp.up_proj.weight is a shard of a weight"),
    "FSDP": (fully_sharded, r"^model: model.layers.1 is wrapped by FullyShardedDataParallel"),
}


@pytest.mark.parametrize("case", PARTS)
def test_a_model_in_parts_is_refused_at_once(case: str) -> None:
    spoil, message = PARTS[case]
    model = tiny.random_model(tiny.llama_config())
    spoil(model)
    with pytest.raises(ValueError, match=message):
        tiny.prune(model, "2:4")


IDS = tiny.random_windows(2, 8)
WINDOWS: dict[str, tuple[Any, str]] = {
    "list": (IDS.tolist(), r"^windows must be a tensor of token ids, int64 or int32, got list"),
    "one window": (IDS[0], r"^windows must have the shape \(windows, seqlen\), got \(8,\)"),
    "no windows": (IDS[:0], r"^windows must have the shape .*got \(0, 8\)"),
    "empty windows": (IDS[:, :0], r"^windows must have the shape .*got \(2, 0\)"),
    "negative": (IDS - 300, r"^windows must hold token ids, got -\d+"),
    "beyond the vocabulary": (IDS + 256, r"^windows must have token ids below 256, .* got \d+"),
    "fractions": (IDS / 2, r"^windows must be a tensor .* got torch.float32"),
    "an array": (IDS.numpy(), r"^windows must be a tensor .*got ndarray"),
}


@pytest.mark.parametrize("case", WINDOWS)
def test_odd_windows_are_refused_by_name(case: str) -> None:
    windows, message = WINDOWS[case]
    with pytest.raises(ValueError, match=message):
        prune_model(tiny.random_model(tiny.llama_config()), windows, "2:4")


def test_ids_beyond_an_embedding_that_no_config_knows_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"^Lists cannot run .*IndexError: index out of range"):
        tiny.prune(observed.Lists("chain"), windows=IDS + 256)


def test_a_model_in_training_mode_is_pruned_in_evaluation_mode() -> None:
    config = tiny.llama_config(attention_dropout=0.5)
    model, other = tiny.random_model(config), tiny.random_model(config)
    model.train()
    model.model.layers[1].eval()
    before = {name: module.training for name, module in model.named_modules()}
    tiny.prune(model, "2:4", judge=None)
    tiny.prune(other, "2:4", judge=None)
    assert {name: module.training for name, module in model.named_modules()} == before
    for name, weight in other.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name


def test_the_mode_is_restored_after_an_error() -> None:
    model = observed.Looped().train()
    with pytest.raises(ValueError, match="runs its decoder block 0 3 times"):
        tiny.prune(model, "2:4")
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("pattern", [3, None, ("2:4",)])
def test_a_pattern_of_another_type_is_refused_by_name(pattern: Any) -> None:
    with pytest.raises(ValueError, match=r"^pattern must be"):
        prune_model(tiny.random_model(tiny.llama_config()), IDS, pattern)


LLAMA = tiny.random_model(tiny.llama_config(num_hidden_layers=1))
RULES = LayerOptions(parse_pattern("2:4"), block_size=8)
ARGUMENTS: dict[str, tuple[Callable[[], Any], str]] = {
    "no model": (lambda: tiny.prune(None), "model must be a torch.nn.Module, got None"),  # type: ignore[arg-type]
    "a class": (lambda: tiny.prune(nn.Linear), "model must be a torch.nn.Module, got type"),  # type: ignore[arg-type]
    **{
        f"{name} {value!r}": (
            lambda name=name, value=value: tiny.prune(LLAMA, "2:4", **{name: value}),  # type: ignore[misc]
            f"{name} must be {what}, got ",
        )
        for name, value, what in (
            ("block_size", "8", "a whole number"),
            ("block_size", 8.0, "a whole number"),
            ("block_size", True, "a whole number"),
            ("block_size", None, "a whole number"),
            ("block_size", -8, "at least 1"),
            ("damping", "0.01", "a number"),
            ("damping", [0.01], "a number"),
            ("damping", float("nan"), "positive and finite"),
            ("refit_steps", 1.5, "a whole number"),
            ("method", ["thanos"], "text"),
            ("ablation", {"adaptive": False}, "Ablation"),
            ("device", 0, "device or text"),
            ("on_layer", "print", "a function or None"),
            ("only", [0, 1], "a function or None"),
            ("judge", 3, "a function or None"),
            ("ranks", 2, "Ranks or None"),
        )
    },
    "no such device": (lambda: tiny.prune(LLAMA, device="cudo"), "device 'cudo': "),
    "no such solver device": (
        lambda: tiny.prune(LLAMA, solver_device="cudo"), "solver_device 'cudo': "
    ),
    "a device without numbers": (lambda: tiny.prune(LLAMA, device="meta"), "device 'meta': "),
    "a seed": (
        lambda: calibration_windows(None, "pydoc", nsamples=2, seqlen=8, seed=2**64),
        "seed must fit into 64 bits",
    ),
    "too many windows": (
        lambda: calibration_windows(None, "pydoc", nsamples=2**30, seqlen=8, seed=0),
        "nsamples times seqlen must be at most",
    ),
    "windows without content": (
        lambda: prune_model(LLAMA, IDS.to("meta"), "2:4"), "windows must be a plain tensor"
    ),
    "rules": (lambda: tiny.prune(LLAMA, Rules("2:4")), "default must be LayerOptions or "),  # type: ignore[arg-type]
    "globs": (lambda: tiny.prune(LLAMA, Rules(RULES, exclude="*.q_proj")), "exclude must be a l"),  # type: ignore[arg-type]
    "nsamples": (lambda: calibration_windows(None, "pydoc", nsamples=2.0, seqlen=8, seed=0), "nsa"),  # type: ignore[arg-type]
    "tokenizer": (
        lambda: calibration_windows("x", "pydoc", nsamples=2, seqlen=8, seed=0),
        "tokenizer must be given for a text, got str",
    ),
    "a folder": (lambda: load_model(None), "source must be text, got None"),  # type: ignore[arg-type]
    "masks": (lambda: HeldMasks(LLAMA, 3), "masks must be a mapping or text or a path, got 3"),  # type: ignore[arg-type]
    "packs": (lambda: pack_checkpoint(3, "x"), "folder must be text or a path, got 3"),  # type: ignore[arg-type]
}  # fmt: skip


@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments_of_other_types_are_refused_by_name(case: str) -> None:
    call, message = ARGUMENTS[case]
    before = copy.deepcopy(LLAMA.state_dict())
    with pytest.raises(ValueError, match=f"^{message}"):
        call()
    assert all(torch.equal(value, before[name]) for name, value in LLAMA.state_dict().items())


def test_numbers_of_numpy_are_numbers() -> None:
    given = {"block_size": numpy.int64(8), "damping": numpy.float32(0.01)}
    assert tiny.prune(copy.deepcopy(LLAMA), "2:4", **given).verified


def test_a_model_is_pruned_in_inference_mode_and_one_that_was_made_there_is_refused() -> None:
    model = copy.deepcopy(LLAMA)
    with torch.inference_mode():
        assert tiny.prune(model, "2:4").verified
        made = tiny.llama_config(num_hidden_layers=1)
        made_there = tiny.random_model(made)
    with pytest.raises(ValueError, match=r"^model: .* was made under torch.inference_mode"):
        tiny.prune(made_there, "2:4")


def test_a_weight_that_repeats_numbers_is_refused() -> None:
    model = copy.deepcopy(LLAMA)
    up = model.model.layers[0].mlp.up_proj.weight
    up.data = up.data[:1].expand_as(up)
    with pytest.raises(ValueError, match=r"^model: .*up_proj.weight shows one number in several"):
        tiny.prune(model, "2:4")
