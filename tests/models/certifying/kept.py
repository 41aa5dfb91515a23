"""Checkpoints that `thanos certify` judges, and ways to spoil them."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.models import tiny
from tests.models.conftest import SMALL, Outcome, Thanos
from thanos_torch.checkpoint.shards import INDEX, RECORD, tensor_files

Folders = tuple[Path, Path, Path]  # original, pruned, Gram matrices
RECIPE = """
pattern = "unstructured:0.5"
block_size = 8
[[rules]]
layers = "*.k_proj"
pattern = "2:4"
method = "sparsegpt"
[[rules]]
layers = "*.down_proj"
pattern = "structured:0.25+outliers:0.1"
[[rules]]
layers = "*.0.*o_proj"
method = "wanda"
[[rules]]
layers = "*.1.*o_proj"
refit = 5
[[rules]]
layers = "*.1.*q_proj"
update = "sequential"
[[rules]]
layers = "*.2.*v_proj"
pattern = "dense"
"""


def make(
    folder: Path, dtype: torch.dtype, thanos: Thanos, model_dtype: str | None = None
) -> Folders:
    """Prune a checkpoint, whose config.json may name another dtype than its tensors have."""
    dense = tiny.save_checkpoint(tiny.random_model(tiny.llama_config(), dtype), folder / "dense")
    if model_dtype:
        change_json(dense / "config.json", dtype=model_dtype)
    (folder / "recipe.toml").write_text(RECIPE)
    out, grams = folder / "out", folder / "grams"
    options = ("--recipe", folder / "recipe.toml", "--out", out, "--keep-gram", grams)
    done = thanos("prune", dense, *options, *SMALL)
    assert done.status == 0, done.out + done.err
    return dense, out, grams


def change(file: Path, name: str, how: Callable[[Tensor], Tensor]) -> None:
    tensors = load_file(file)
    tensors[name] = how(tensors[name].clone()).contiguous()
    save_file(tensors, file, metadata={"format": "pt"})


def in_weights(name: str, how: Callable[[Tensor], Tensor]) -> Callable[[Path], None]:
    return lambda folder: change(tensor_files(folder / "out")[name], name, how)


def in_gram(file: str, how: Callable[[Tensor], Tensor], layer: str = "") -> Callable[[Path], None]:
    return lambda folder: change(folder / "grams" / f"{file}.safetensors", layer or file, how)


def in_witness(layer: str, how: Callable[[Tensor], Tensor]) -> Callable[[Path], None]:
    """Change the weight before a layer's refit."""
    return in_gram(f"{layer}.before-refit", how, layer)


def in_record(layer: str, how: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Change what thanos.json says of a layer."""

    def spoil(folder: Path) -> None:
        file = folder / "out" / RECORD
        record = json.loads(file.read_text())
        how(next(each for each in record["layers"] if each["name"] == layer))
        file.write_text(json.dumps(record))

    return spoil


def in_two_files(out: Path) -> None:
    """Spread the weights over two files, with an index that names every tensor."""
    weights = load_file(out / "model.safetensors")
    (out / "model.safetensors").unlink()
    places = {name: f"model-0000{1 + n % 2}-of-00002.safetensors" for n, name in enumerate(weights)}
    for file in set(places.values()):
        held = {name: weights[name] for name in weights if places[name] == file}
        save_file(held, out / file, metadata={"format": "pt"})
    (out / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))


def like(weight: Tensor) -> Tensor:
    """Random weights with the same zeros."""
    return torch.where(weight == 0, weight, torch.randn(weight.shape, dtype=weight.dtype))


def change_json(file: Path, **values: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def certify_in(folder: Path, thanos: Thanos) -> Outcome:
    return thanos("certify", folder / "dense", folder / "out", "--gram", folder / "grams")


def undecided(judge: Callable[..., Any]) -> Callable[..., Any]:
    """A judge that leaves one check open for layers of shape (16, 24)."""

    def judged(weight: Any, *args: Any, **options: Any) -> Any:
        found = judge(weight, *args, **options)
        if weight.shape != (16, 24):
            return found
        check = {"name": "decidable", "value": "inf", "where": "", "note": "[too few tokens]"}
        certificate = found.as_dict()
        certificate["checks"].append({**check, "verdict": "not decidable"})
        certificate |= {"passed": False, "verdict": "not decidable"}
        return SimpleNamespace(as_dict=lambda: certificate)

    return judged
