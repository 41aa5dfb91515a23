"""A checkpoint's tensors decide what is pruned, and in which dtype, whatever config.json says."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import ProphetNetConfig

from tests.models import tiny
from tests.models.certifying.kept import change_json
from tests.models.conftest import SMALL, Thanos
from tests.models.families import FAMILIES
from thanos_torch.checkpoint.shards import INDEX
from thanos_torch.models import (
    load_model,
    prune_model,
    save_checkpoint,
    stream_model,
)
from thanos_torch.pruning.plan import rules_for

Weights = dict[str, Tensor]
BLOCK = "model.layers.1."
DOWN = f"{BLOCK}mlp.down_proj"
FLOAT8 = torch.float8_e4m3fn


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float32 Llama of two blocks."""
    model = tiny.random_model(tiny.llama_config(num_hidden_layers=2))
    return tiny.save_checkpoint(model, tmp_path_factory.mktemp("two") / "dense")


def changed(folder: Path, to: Path, change: Callable[[Weights], Any], config: str = "") -> Path:
    """A copy of a checkpoint with other tensors, and another dtype in config.json."""
    shutil.copytree(folder, to)
    weights = load_file(to / "model.safetensors")
    change(weights)
    save_file(weights, to / "model.safetensors", metadata={"format": "pt"})
    if config:
        change_json(to / "config.json", dtype=config)
    return to


def cast(dtype: torch.dtype, *parts: str) -> Callable[[Weights], None]:
    """Change the dtype of all matrices whose names hold one of `parts`."""

    def change(weights: Weights) -> None:
        for name, value in weights.items():
            if value.dim() > 1 and (not parts or any(part in name for part in parts)):
                weights[name] = value.mul(16).to(dtype) if dtype == torch.int8 else value.to(dtype)

    return change


def add(name: str, value: Tensor) -> Callable[[Weights], None]:
    return lambda weights: weights.update({name: value})


def bitsandbytes(weights: Weights) -> None:
    cast(torch.int8, "proj")(weights)
    weights |= {f"{DOWN}.SCB": torch.ones(16)}


def four_bits(weights: Weights) -> None:
    weights[f"{DOWN}.weight"] = torch.zeros(16 * 24 // 2, 1, dtype=torch.uint8)
    weights[f"{DOWN}.weight.absmax"] = torch.ones(6)


def gptq(weights: Weights) -> None:
    del weights[f"{DOWN}.weight"]
    weights[f"{DOWN}.qweight"] = torch.zeros(3, 16, dtype=torch.int32)


def without_prefix(weights: Weights) -> None:
    add(f"{DOWN}.SCB", torch.ones(16))(weights)
    for name in list(weights):
        weights[name.removeprefix("model.")] = weights.pop(name)


REFUSED: dict[str, tuple[Callable[[Weights], Any], str]] = {
    "int8": (bitsandbytes, "down_proj.weight holds torch.int8, which cannot be pruned: deq"),
    "4 bits": (four_bits, f"{DOWN}.weight holds torch.uint8, which cannot be pruned"),
    "float8": (cast(FLOAT8, "proj"), "proj.weight holds torch.float8_e4m3fn, which cannot be"),
    "another float8": (cast(torch.float8_e5m2, DOWN), f"{DOWN}.weight holds torch.float8_e5m2"),
    "int32": (cast(torch.int32, DOWN), f"{DOWN}.weight holds torch.int32"),
    "bool": (cast(torch.bool, DOWN), f"{DOWN}.weight holds torch.bool"),
    "embedding": (cast(torch.int8, "embed"), "model.embed_tokens.weight holds torch.int8"),
    "head": (cast(FLOAT8, "lm_head"), "lm_head.weight holds torch.float8_e4m3fn"),
    "norm": (
        add(f"{BLOCK}input_layernorm.weight", torch.ones(16, dtype=torch.int16)),
        f"{BLOCK}input_layernorm.weight holds torch.int16",
    ),
    "float8 elsewhere": (
        add("vision.proj.weight", torch.ones(2, 2).to(FLOAT8)),
        "vision.proj.weight holds torch.float8_e4m3fn",
    ),
    "packed": (gptq, f"{DOWN}.qweight (torch.int32) is no tensor of LlamaForCausalLM: dequantise"),
    "scale": (
        add(f"{DOWN}.weight_scale", torch.ones(1)),
        f"{DOWN}.weight_scale (torch.float32) is no tensor of LlamaForCausalLM",
    ),
    "scale of the head": (
        add("lm_head.SCB", torch.ones(256)),
        "lm_head.SCB (torch.float32) is no tensor of LlamaForCausalLM",
    ),
    "scale without prefix": (without_prefix, "layers.1.mlp.down_proj.SCB (torch.float32) is no te"),
    "adapter": (
        add(f"{BLOCK}self_attn.q_proj.lora_A.weight", torch.ones(2, 16)),
        "q_proj.lora_A.weight (torch.float32) is no tensor of LlamaForCausalLM",
    ),
    "adapter of a wrapped model": (
        add(f"base_model.model.{BLOCK}self_attn.q_proj.lora_A.weight", torch.ones(2, 16)),
        "q_proj.lora_A.weight (torch.float32) is no tensor of LlamaForCausalLM",
    ),
    "another model's norm": (
        add(f"{BLOCK}self_attn.q_norm.weight", torch.ones(4)),
        f"{BLOCK}self_attn.q_norm.weight (torch.float32) is no tensor of LlamaForCausalLM",
    ),
    "a third block": (
        add("model.layers.2.mlp.up_proj.weight", torch.ones(24, 16)),
        "model.layers.2.mlp.up_proj.weight (torch.float32) lies beyond the 2 blocks that config",
    ),
    "no second block": (
        lambda weights: [weights.pop(name) for name in list(weights) if BLOCK in name],
        f"it lacks weights: {BLOCK}input_layernorm.weight, {BLOCK}mlp.down_proj.weight, "
        f"{BLOCK}mlp.gate_proj.weight and 6 more",
    ),
    "two dtypes in one layer": (
        lambda _: None,  # of the family below
        "mlp.experts.gate_up_proj is stored as torch.bfloat16 and torch.float32: convert",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_plain_weight_is_refused_at_every_door(
    thanos: Thanos, two: Path, tmp_path: Path, case: str
) -> None:
    change, message = REFUSED[case]
    if case == "two dtypes in one layer":
        model = tiny.random_model(FAMILIES["Mixtral"].config)
        two = tiny.save_checkpoint(model, tmp_path / "mixtral")
        change = cast(torch.bfloat16, "1.w1")
    bad = changed(two, tmp_path / "bad", change)
    with pytest.raises(ValueError, match=r"^model '.*' could not be loaded: .*") as caught:
        load_model(str(bad))
    assert message in str(caught.value)
    out = ("--pattern", "2:4", *SMALL, "--out", tmp_path / "out")
    for command in (
        ("prune", bad, *out),
        ("prune", bad, *out, "--dry-run"),
        ("certify", bad, two, "--gram", two, "--pattern", "2:4"),
    )[: 3 if case in ("int8", "packed", "a third block") else 2]:
        done = thanos(*command)
        assert (done.status, done.out) == (1, "")
        assert message in done.err
        assert len(done.err.strip().splitlines()) == 1
    assert not list(tmp_path.glob("out*"))


def test_tensors_that_no_index_names_are_refused(thanos: Thanos, two: Path, tmp_path: Path) -> None:
    """Transformers reads them."""
    bad = changed(two, tmp_path / "bad", lambda _: None)
    names = load_file(bad / "model.safetensors").keys() - {"model.norm.weight"}
    (bad / "model.safetensors").rename(bad / "a.safetensors")
    (bad / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(names, "a.safetensors")}))
    message = f"a.safetensors holds model.norm.weight, which {INDEX} does not place there"
    for dry in ((), ("--dry-run",)):
        done = thanos("prune", bad, "--pattern", "2:4", "--out", tmp_path / "out", *dry)
        assert message in done.err
    with pytest.raises(ValueError, match="does not place there"):
        load_model(str(bad))


def outdated(weights: Weights) -> None:
    weights |= {
        "model.position_ids": torch.arange(64)[None],
        f"{BLOCK}self_attn.rotary_emb.inv_freq": torch.ones(2),
        "vision.tower.0.weight": torch.ones(2, 2),
        "vision.tower.0.number": torch.ones(3, dtype=torch.int64),
    }


def test_what_a_model_need_not_know_is_passed_on(thanos: Thanos, two: Path, tmp_path: Path) -> None:
    """Integers among buffers, buffers of older versions, and parts that the class lacks."""
    dense = changed(two, tmp_path / "dense", outdated)
    out = tmp_path / "out"
    done = thanos("prune", dense, "--pattern", "2:4", "--out", out, "--method", "magnitude", *SMALL)
    assert done.status == 0, done.err
    assert thanos("inspect", out).status == 0
    _, streamed = stream_model(str(out))
    assert streamed.dtypes["model.position_ids"] == torch.int64
    model = tiny.random_model(FAMILIES["GPT-2"].config)
    masks = {"transformer.h.0.attn.bias": torch.ones(1, 1, 64, 64, dtype=torch.bool)}
    masks["transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
    gpt2 = tiny.save_checkpoint(model, tmp_path / "gpt2")
    stream_model(str(changed(gpt2, tmp_path / "old", lambda weights: weights.update(masks))))


MIXED: dict[str, tuple[Callable[[Weights], Any], str]] = {
    "float32, config bfloat16": (lambda _: None, "bfloat16"),
    "bfloat16, down_proj float32": (cast(torch.bfloat16, "q_", "k_", "v_", "up_", "emb"), ""),
    "bfloat16, config float16": (cast(torch.bfloat16), "float16"),
    "float16, config bfloat16": (cast(torch.float16), "bfloat16"),
    "float64 among float32": (cast(torch.float64, "down_proj"), "float32"),
    "float16 and bfloat16": (
        lambda weights: (cast(torch.bfloat16)(weights), cast(torch.float16, "o_proj")(weights)),
        "bfloat16",
    ),
}


@pytest.mark.parametrize("case", MIXED)
def test_every_layer_is_pruned_and_stored_in_its_tensors_dtype(
    thanos: Thanos, two: Path, tmp_path: Path, case: str
) -> None:
    change, config = MIXED[case]
    dense = changed(two, tmp_path / "dense", change, config or "bfloat16")
    out, grams = tmp_path / "out", tmp_path / "grams"
    options = ("--pattern", "2:4", *SMALL, "--out", out, "--keep-gram", grams)
    done = thanos("prune", dense, *options)
    assert done.status == 0, done.out + done.err
    _, before = stream_model(str(dense))
    _, after = stream_model(str(out))
    assert after.dtypes == before.dtypes
    for layer, narrower in ((DOWN, torch.bfloat16), (f"{BLOCK}self_attn.o_proj", torch.bfloat16)):
        weight = load_file(after.files[f"{layer}.weight"])[f"{layer}.weight"]
        wide = weight.dtype in (torch.float32, torch.float64, torch.float16)
        assert torch.equal(weight, weight.to(narrower).to(weight.dtype)) is not wide
    judged = thanos("certify", dense, out, "--gram", grams)
    assert judged.status == 0, judged.out
    assert "14 of 14 layers passed." in judged.out
    assert thanos("inspect", out).status == 0

    loaded = load_model(str(dense))
    rules = rules_for("2:4", block_size=8)
    report = prune_model(loaded.model, tiny.random_windows(), rules)
    assert report.verified
    record = {"settings": {}, "model": {"origin": ""}, **report.as_dict()}
    save_checkpoint(loaded, tmp_path / "held", record=record, masks=report.masks)
    assert stream_model(str(tmp_path / "held"))[1].dtypes == before.dtypes


def test_tied_embeddings_are_saved_once_and_in_their_dtype(tmp_path: Path) -> None:
    config = tiny.llama_config(num_hidden_layers=1, tie_word_embeddings=True)
    wide = tiny.save_checkpoint(tiny.random_model(config), tmp_path / "wide")
    dense = changed(wide, tmp_path / "dense", cast(torch.bfloat16, "q_proj", "embed"))
    loaded = load_model(str(dense))
    save_checkpoint(loaded, tmp_path / "out", record={}, masks={})
    _, before = stream_model(str(dense))
    assert stream_model(str(tmp_path / "out"))[1].dtypes == before.dtypes


def test_tied_embeddings_may_have_either_name(thanos: Thanos, tmp_path: Path) -> None:
    def both(weights: Weights) -> None:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()

    def head(weights: Weights) -> None:
        weights["lm_head.weight"] = weights.pop("model.embed_tokens.weight")

    config = tiny.llama_config(num_hidden_layers=1, tie_word_embeddings=True)
    plain = tiny.save_checkpoint(tiny.random_model(config), tmp_path / "plain")
    dense = [plain, *(changed(plain, tmp_path / each.__name__, each) for each in (both, head))]
    states = []
    for folder in dense:
        out = tmp_path / f"{folder.name} out"
        options = ("--pattern", "2:4", "--method", "wanda", *SMALL)
        done = thanos("prune", folder, *options, "--out", out)
        assert done.status == 0, done.err
        states.append(load_model(str(out)).model.state_dict())
    for name, weight in states[0].items():
        assert all(torch.equal(weight, state[name]) for state in states[1:]), name


def test_embeddings_that_are_tied_to_another_module_are_read(
    thanos: Thanos, tmp_path: Path
) -> None:
    """Those of ProphetNet's decoder, without its cross-attention."""
    config = ProphetNetConfig(
        vocab_size=256, hidden_size=16, num_decoder_layers=1, num_decoder_attention_heads=2,
        decoder_ffn_dim=24, ngram=2, max_position_embeddings=64, is_decoder=True,
        add_cross_attention=False,
    )  # fmt: skip
    dense = tiny.save_checkpoint(tiny.random_model(config), tmp_path / "dense")
    options = ("--pattern", "2:4", "--method", "wanda", *SMALL)
    done = thanos("prune", dense, *options, "--out", tmp_path / "out")
    assert done.status == 0, done.err
