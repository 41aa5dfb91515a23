"""`thanos certify`: what passes from kept Gram matrices, and what is caught."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.models.certifying.kept import (
    Folders,
    certify_in,
    in_gram,
    in_record,
    in_weights,
    in_witness,
    like,
    make,
)
from tests.models.conftest import Thanos
from thanos_torch.checkpoint.shards import tensor_files
from thanos_torch.models import RECORD


def test_every_layer_passes_again(thanos: Thanos, kept: Folders, tmp_path: Path) -> None:
    dense, out, grams = kept
    names = json.loads((grams / "grams.json").read_text())
    assert len(names) == 20
    assert names["model.layers.1.self_attn.v_proj"] == "model.layers.1.self_attn.q_proj"
    stored = [file for file in grams.glob("*.safetensors") if "before-refit" not in file.name]
    assert len(stored) == 3 * 4  # of q, k and v one, of gate and up one
    report = tmp_path / "report.json"
    done = thanos("certify", dense, out, "--gram", grams, "--json", report)
    assert done.status == 0, done.out
    assert "20 of 20 layers passed." in done.out
    found = json.loads(report.read_text())
    assert found["passed"] is True
    assert {layer["certificate"]["pattern"] for layer in found["layers"]} == {
        "2:4",
        "unstructured:0.5",
        "structured:0.25+outliers:0.1",
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_judged_as_it_is_stored(
    thanos: Thanos, tmp_path: Path, dtype: torch.dtype
) -> None:
    dense, out, grams = make(tmp_path, dtype, thanos)
    done = thanos("certify", dense, out, "--gram", grams)
    assert done.status == 0, done.out


def test_one_file_judges_the_layers_that_it_names(
    thanos: Thanos, kept: Folders, tmp_path: Path
) -> None:
    dense, out, grams = kept
    file = grams / "model.layers.2.mlp.down_proj.safetensors"
    only = ("--include", "*.2.mlp.down_proj")
    assert thanos("certify", dense, out, "--gram", file, *only).status == 0
    done = thanos("certify", dense, out, "--gram", file)
    assert done.status == 1
    assert "1 of 20 layers passed." in done.out
    assert "FAILED: there is no Gram matrix of it" in done.out


def one_weight_larger(weight: Tensor) -> Tensor:
    row, column = (weight != 0).nonzero()[5].tolist()
    weight[row, column] *= 1.01
    return weight


def one_zero_less(weight: Tensor) -> Tensor:
    row, column = (weight == 0).nonzero()[0].tolist()
    weight[row, column] = 0.5
    return weight


def one_column_louder(gram: Tensor) -> Tensor:
    gram[3] *= 1.1
    gram[:, 3] *= 1.1
    return gram


def other_damping(folder: Path) -> None:
    file = folder / "out" / RECORD
    file.write_text(file.read_text().replace('"damping": 0.01', '"damping": 0.02'))


def another_place(folder: Path) -> None:
    """The record names a weight that is right in the place of one that is not."""
    in_weights(UP, lambda weight: weight * 0)(folder)
    other = UP.replace(".1.", ".0.")
    name = UP.removesuffix(".weight")
    in_record(name, lambda layer: layer["stored"].update(tensors=[other]))(folder)


def lost_index(folder: Path) -> None:
    index = folder / "grams" / "grams.json"
    names = json.loads(index.read_text())
    del names["model.layers.1.mlp.gate_proj"]
    index.write_text(json.dumps(names))


def lost_refit(folder: Path) -> None:
    (folder / "grams" / "model.layers.1.self_attn.o_proj.before-refit.safetensors").unlink()


def without(name: str) -> Callable[[Path], None]:
    def lose(folder: Path) -> None:
        file = tensor_files(folder / "out")[name]
        tensors = load_file(file)
        del tensors[name]
        save_file(tensors, file, metadata={"format": "pt"})

    return lose


def with_a_bias(folder: Path) -> None:
    name = "model.layers.1.self_attn.q_proj.bias"
    file = folder / "out" / "model.safetensors"
    save_file(load_file(file) | {name: torch.ones(16)}, file, metadata={"format": "pt"})


NORM = "model.norm.weight"
UP, GATE = "model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.gate_proj"
Q, OUT = "model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.o_proj"
DENSE = "model.layers.2.self_attn.v_proj.weight"
SPOILED: dict[str, tuple[Callable[[Path], None], str, int]] = {
    "weight": (in_weights(UP, one_weight_larger), "layers.1.mlp.up_proj FAILED: replay", 19),
    "zero": (in_weights(UP, one_zero_less), "layers.1.mlp.up_proj FAILED: counts", 19),
    "refitted": (in_weights(f"{OUT}.weight", one_zero_less), f"{OUT} FAILED: support", 19),
    "gram": (in_gram(GATE, one_column_louder), "layers.1.mlp.up_proj FAILED: ", 18),
    "no gram at all": (in_gram(GATE, lambda gram: -gram), "gate_proj FAILED: gram", 18),
    "shape": (in_gram(GATE, lambda gram: gram[:8, :8]), "gate_proj FAILED: gram must be", 18),
    "damping": (other_damping, "layers.0.self_attn.v_proj FAILED: replay", 1),
    "ablation": (in_record(Q, lambda layer: layer["options"].pop("ablation")), f"{Q} FAILED: ", 19),
    "index": (lost_index, "gate_proj FAILED: there is no Gram matrix of it", 19),
    "refit": (
        lost_refit,
        "FAILED: a refit was asked for, and the weight before it was not kept",
        19,
    ),
    "other": (in_weights(DENSE, lambda weight: weight * 2), f"{DENSE} was CHANGED", 20),
    "lost": (without(NORM), f"{NORM} was LOST, though nobody asked for that", 20),
    "added": (with_a_bias, f"{Q}.bias was ADDED", 20),
    "more rows": (in_weights(UP, lambda weight: weight.repeat(2, 1)), "of shape (48, 16), the", 19),
    "narrower dtype": (in_weights(UP, Tensor.bfloat16), "up_proj FAILED: stored as bfloat16", 19),
    # Between huge weights in bfloat16 there is room for nearly anything.
    "huge weights in a narrower dtype": (
        in_weights(UP, lambda weight: (weight * 1e30).bfloat16()),
        "layers.1.mlp.up_proj FAILED: stored as bfloat16, the original as float32",
        19,
    ),
    "place": (another_place, "layers.1.mlp.up_proj FAILED", 19),
    "witness": (in_witness(OUT, like), f"{OUT} FAILED: ", 19),
}


@pytest.mark.parametrize("case", SPOILED)
def test_what_is_spoiled_is_caught(
    thanos: Thanos, kept: Folders, tmp_path: Path, case: str
) -> None:
    spoil, message, passing = SPOILED[case]
    folder = tmp_path / "copy"
    shutil.copytree(kept[0].parent, folder)
    spoil(folder)
    done = certify_in(folder, thanos)
    assert done.status == 1
    assert message in done.out, done.out
    assert f"{passing} of 20 layers passed." in done.out, done.out


def test_what_cannot_be_judged_is_refused(thanos: Thanos, kept: Folders, tmp_path: Path) -> None:
    dense, out, grams = kept
    done = thanos("certify", dense, dense, "--gram", grams)
    assert (done.status, "has no thanos.json" in done.err) == (1, True)
    done = thanos("certify", "org/model", out, "--gram", grams)
    assert (
        "original must be a checkpoint folder, smollm2-135m or gemma3-270m, got 'org/model'"
        in done.err
    )
    done = thanos("certify", dense, out, "--gram", tmp_path)
    assert "is no index of it" in done.err
    done = thanos("certify", dense, out, "--gram", tmp_path / "none.safetensors")
    assert "none.safetensors cannot be read" in done.err
    done = thanos("certify", dense, out, "--gram", grams, "--include", "*.qproj")
    assert "near misses: *.q_proj" in done.err
    done = thanos("prune", dense, "--pattern", "2:4", "--out", tmp_path / "o", "--keep-gram", grams)
    assert f"keep_gram must be a new or empty folder, got {grams}" in done.err
