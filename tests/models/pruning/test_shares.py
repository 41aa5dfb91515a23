"""How much of a model a run pruned: both shares, and what was left alone unasked."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import (
    MambaConfig,
    PreTrainedConfig,
    RecurrentGemmaConfig,
    XLNetConfig,
)

from tests.models import tiny
from tests.models.conftest import SMALL, Thanos
from tests.models.families import FAMILIES, Family
from tests.models.observed import JETMOE, LLAMA_4
from thanos_torch import parse_pattern
from thanos_torch.checkpoint.record import layer_kind
from thanos_torch.cli import prune as prune_command
from thanos_torch.cli import prune_tables
from thanos_torch.models import RECORD, Dense, LayerOptions, ModelReport, Rule, Rules, prune_model
from thanos_torch.pruning.dry_run import Speed
from thanos_torch.pruning.plan import matching
from verification import certify

# Its attention multiplies by matrices in 3-D that are no experts.
XLNET = XLNetConfig(
    vocab_size=256, d_model=16, n_layer=2, n_head=4, d_inner=24, bos_token_id=1, eos_token_id=2
)
UNKNOWN = (*(f"rel_attn.{matrix}" for matrix in "qkvor"), "seg_embed")
# Its gates are block-diagonal: one block here.
RECURRENT_GEMMA = RecurrentGemmaConfig(
    vocab_size=256,
    hidden_size=16,
    num_hidden_layers=3,
    num_attention_heads=1,
    num_key_value_heads=1,
    intermediate_size=24,
    lru_width=16,
)
MAMBA = MambaConfig(vocab_size=256, hidden_size=32, num_hidden_layers=2, time_step_rank=4)


def shares(model: Any, report: ModelReport, unasked: Callable[[str], bool]) -> tuple[float, float]:
    """Removed and left alone, as shares of all numbers in the blocks, counted by hand."""
    parameters = model.named_parameters()
    inside = {n: each.numel() for n, each in parameters if ".layers." in n or ".layer." in n}
    total = sum(inside.values())
    alone = sum(size for name, size in inside.items() if unasked(name))
    return sum(layer.removed for layer in report.layers) / total, alone / total


@pytest.mark.parametrize(
    ("config", "unknown"),
    [
        (XLNET, UNKNOWN),
        (RECURRENT_GEMMA, ("input_gate_weight", "recurrent_gate_weight", "conv_1d.weight")),
    ],
    ids=["XLNet", "RecurrentGemma"],
)
def test_matrices_of_an_unknown_form_are_less_than_asked(
    thanos: Thanos,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: PreTrainedConfig,
    unknown: tuple[str, ...],
) -> None:
    monkeypatch.setattr(prune_tables, "measure_speed", lambda: Speed(1e9, 1e9, 1e9))
    model = tiny.random_model(config)
    dense = tiny.save_checkpoint(model, tmp_path / "dense")
    report = tiny.prune(model, "2:4")
    removed, alone = shares(model, report, lambda name: name.endswith(unknown))
    assert (report.block_sparsity, report.left_alone_share) == (removed, alone)
    assert report.less_than_asked
    assert (report.sparsity, report.verified) == (0.5, True)
    assert all(name.endswith(unknown) for name in report.left_alone)

    out = tmp_path / "out"
    command = ("prune", dense, "--pattern", "2:4", *SMALL, "--out", out)
    planned, done = thanos(*command, "--dry-run"), thanos(*command)
    assert (planned.status, done.status) == (4, 4)
    last = done.out.splitlines()[-1]
    assert f"Removed {removed:.2%} of all weights in the decoder blocks, 50.00% of those" in last
    for said in (last, planned.out.splitlines()[-1]):
        assert f"LESS THAN ASKED: {alone:.2%} of the blocks' weights" in said
        assert ".0." in said
        assert "--allow-partial accepts that." in said
    assert f"({removed:.2%}) would be removed, 50.00% of those" in planned.out
    record = json.loads((out / RECORD).read_text())
    for name in ("sparsity", "block_sparsity", "left_alone", "left_alone_share"):
        assert record[name] == getattr(report, name)
    assert f"{removed:.2%} of all weights in its decoder" in (out / "README.md").read_text()
    for more in (("--allow-partial",), ("--allow-partial", "--dry-run")):
        assert thanos(*command, *more).status == 0
    assert thanos(*command).status == 4  # shown again


HALF = LayerOptions(parse_pattern("2:4"), block_size=8)


@pytest.mark.parametrize(
    ("rules", "asked"),
    [
        (Rules(HALF, exclude=("*.0.*",)), lambda name: ".0." not in name),
        (Rules(HALF, include=("*.ff.*",)), lambda name: False),
        (Rules(None, (Rule(("*",), HALF, "a rule"),)), lambda name: True),
        (
            Rules(HALF, (Rule(("*.1.*",), Dense("as asked"), "a rule"),)),
            lambda name: ".0." in name,
        ),
        (
            Rules(Dense("as asked"), (Rule(("*.1.*",), HALF, "a rule"),)),
            lambda name: ".1." in name,
        ),
    ],
    ids=["exclude", "include", "rule for all", "dense rule", "dense default"],
)
def test_what_was_left_out_on_purpose_is_not_left_alone(
    rules: Rules, asked: Callable[[str], bool]
) -> None:
    model = tiny.random_model(XLNET)
    report = prune_model(model, tiny.random_windows(2, 16), rules, judge=None)
    expected = shares(model, report, lambda name: name.endswith(UNKNOWN) and asked(name))
    assert (report.block_sparsity, report.left_alone_share) == expected


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_known_families_are_pruned_as_asked(family: Family) -> None:
    report = tiny.prune(tiny.random_model(family.config), "2:4", judge=None)
    assert not report.less_than_asked, report.left_alone


@pytest.mark.parametrize("config", [LLAMA_4, JETMOE], ids=["Llama 4", "JetMoe"])
def test_experts_of_other_forms_are_pruned_as_asked(config: PreTrainedConfig) -> None:
    report = tiny.prune(tiny.random_model(config), "2:4", judge=None)
    assert not report.less_than_asked
    assert all("router" in name for name in report.left_alone)
    assert report.block_sparsity > 0.48


@pytest.mark.parametrize(
    ("name", "kind", "glob"),
    [
        ("a.0.q_proj", "q_proj", "*.q_proj"),
        ("a.0.mlp.experts.3.w1", "w1", "*.w1"),
        ("a.0.mlp.input_linear.3.weight", "input_linear", "*.input_linear.*"),
    ],
)
def test_the_kind_of_a_layer_is_found_by_its_glob(name: str, kind: str, glob: str) -> None:
    assert layer_kind(name) == kind
    assert layer_kind(name, (24, 16)) == f"{kind} 24 x 16"
    assert matching(glob, [name], "test") == [name]
    with pytest.raises(ValueError, match=rf"near misses: .*{re.escape(glob)}"):
        matching("*.other_proj", [name], "test")


def test_states_and_biases_are_no_weights_that_were_left_alone() -> None:
    report = tiny.prune(tiny.random_model(MAMBA), "2:4", judge=None)
    assert not any(name.endswith(("A_log", "bias", "D")) for name in report.left_alone)
    assert "backbone.layers.0.mixer.conv1d.weight" in report.left_alone


def test_layers_that_no_token_reached_are_less_than_asked(
    thanos: Thanos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = FAMILIES["Qwen3-MoE"].config.__class__(
        **{**FAMILIES["Qwen3-MoE"].config.to_dict(), "num_experts": 12, "mlp_only_layers": []}
    )
    dense = tiny.save_checkpoint(tiny.random_model(config), tmp_path / "dense")
    few = ("--nsamples", 1, "--seqlen", 2, "--block-size", 8)

    def command(out: str) -> tuple[object, ...]:
        return ("prune", dense, "--pattern", "2:4", "--out", tmp_path / out, *few)

    done = thanos(*command("out"))
    assert done.status == 4
    last = done.out.splitlines()[-1]
    assert "NOT verified: " in last
    assert " left dense. LESS THAN ASKED: " in last
    assert thanos(*command("out"), "--allow-partial").status == 0
    assert json.loads((tmp_path / "out" / RECORD).read_text())["verified"] is False

    def strict(*args: Any, **options: Any) -> Any:
        return certify(*args, **{**options, "damping": 0.5})  # so that updates are wrong

    monkeypatch.setattr(prune_command, "certify", strict)
    assert thanos(*command("failed"), "--allow-partial").status == 1
