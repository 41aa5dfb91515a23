"""Check a pruned checkpoint against its original, with nothing but safetensors and Transformers."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from tests.models.sweep.inputs import input_grams

# Float32 sums of a few hundred products, of inputs that another order of sums changed as little.
GRAM_LIMIT = 1e-5
# Of what is added or multiplied element by element, `thanos.json` says nothing.
_ELEMENTWISE = re.compile(r"(bias|\.A_log|\.D)$")
_BLOCK = re.compile(r"(.*?)\.\d+\.")  # the list of blocks, and a block's number
Record = Mapping[str, Any]


def tensors_of(folder: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint, by name."""
    files = [each for each in folder.glob("*.safetensors") if each.name != "masks.safetensors"]
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def file_problems(dense: Path, pruned: Path, record: Record) -> Iterator[str]:
    """What the saved tensors hold that `thanos.json` does not say, and the other way round."""
    before, after = tensors_of(dense), tensors_of(pruned)
    if before.keys() != after.keys():
        yield f"other tensors: {sorted(before.keys() ^ after.keys())[:3]}"
        return
    layers = [layer for layer in record["layers"] if not layer["left_dense"]]
    rest = {name: torch.ones_like(tensor, dtype=torch.bool) for name, tensor in before.items()}
    for layer in layers:
        if not layer["stored"]:
            yield f"{layer['name']}: where its weight is stored is not said"
            continue
        zeros = 0
        for name in layer["stored"]["tensors"]:
            zeros += int((own_part(after[name], layer) == 0).sum())
            own_part(rest[name], layer).fill_(False)
        if zeros != layer["removed"]:
            yield f"{layer['name']}: {zeros} zeros are stored, {layer['removed']} are recorded"
    for name, outside in rest.items():
        if not torch.equal(before[name][outside], after[name][outside]):
            yield f"{name} changed outside of the pruned layers"


def own_part(tensor: Tensor, layer: Record) -> Tensor:
    """The part of a tensor, or of a parameter, that holds a layer's weight."""
    place = layer["stored"]
    if stacked := place.get("stacked"):
        part: Tensor = tensor.chunk(stacked)[place["expert"]]
        return part
    return tensor if place["expert"] is None else tensor[place["expert"]]


def weight_of(parameters: Mapping[str, Tensor], layer: Record) -> Tensor:
    """The weight of a layer by its name in `thanos.json`, as a view of the model's parameter."""
    name = layer["name"]
    if f"{name}.weight" in parameters:
        return parameters[f"{name}.weight"]
    module, number, attribute = name.rsplit(".", 2)
    parameter, stacked = parameters[f"{module}.{attribute}"], layer["stored"].get("stacked")
    return (parameter.chunk(stacked) if stacked else parameter)[int(number)]


def load(folder: Path) -> tuple[Any, Any]:
    """The model that Transformers makes of a folder, and what it says of the loading."""
    build: Any = AutoModelForCausalLM
    model, info = build.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    for module in model.modules():  # its faster ways to compute experts hide who reads what
        config: Any = getattr(module, "config", None)
        if hasattr(config, "_experts_implementation"):
            config._experts_implementation = "eager"
    return model.eval(), {name: sorted(map(str, names)) for name, names in info.items()}


def count_problems(dense: nn.Module, pruned: nn.Module, record: Record) -> Iterator[str]:
    """Whether the shares in `thanos.json` are those of all parameters of the lists of blocks."""
    lists = {_BLOCK.match(layer["name"])[1] for layer in record["layers"]}  # type: ignore[index]
    inside = {
        name: weight
        for name, weight in pruned.named_parameters()
        if (found := _BLOCK.match(name)) and found[1] in lists
    }
    removed = sum(layer["removed"] for layer in record["layers"])
    share = removed / sum(weight.numel() for weight in inside.values())
    if share != record["block_sparsity"]:
        yield f"block_sparsity is {record['block_sparsity']}, but {share} of the weights are gone"
    left = {f"{layer['name']}.weight" for layer in record["layers"] if layer["left_dense"]}
    for name, weight in inside.items():
        matrix = weight.squeeze().dim() > 1 and not _ELEMENTWISE.search(name)
        same = torch.equal(weight, dense.get_parameter(name))
        if matrix and same and name not in left | {*record["others"]}:
            yield f"{name} is as dense as before, and nothing says so"


def model_problems(
    dense: Path, pruned: Path, grams: Path, record: Record, windows: Tensor
) -> Iterator[str]:
    """Reload both checkpoints; compare counts, Gram matrices and logits.

    grams    the folder of --keep-gram
    windows  (windows, tokens) that the model was calibrated with

    Each block's Gram matrices are those of the dense model whose earlier blocks were replaced in
    memory by the pruned ones.
    """
    (model, told), (result, told_again) = load(dense), load(pruned)
    if told != told_again or told["missing_keys"]:
        yield f"loading: {told} became {told_again}"
    yield from count_problems(model, result, record)
    files = json.loads((grams / "grams.json").read_text())
    blocks: dict[str, list[Record]] = {}
    for layer in record["layers"]:
        block = _BLOCK.match(layer["name"])[0].removesuffix(".")  # type: ignore[index]
        blocks.setdefault(block, []).extend([] if layer["left_dense"] else [layer])
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for block, layers in blocks.items():
        weights = {layer["name"]: weight_of(parameters, layer) for layer in layers}
        found = input_grams(model, windows, weights)
        for name in weights:
            kept = load_file(grams / f"{files[name]}.safetensors")[files[name]]
            if name not in found or not difference(kept, found[name]) < GRAM_LIMIT:
                yield f"{name}: its Gram matrix is not that of its inputs"
        model.get_submodule(block).load_state_dict(result.get_submodule(block).state_dict())
    with torch.no_grad():
        expected, logits = (each(windows[:2], use_cache=False).logits for each in (model, result))
    if not torch.equal(logits, expected) or not logits.isfinite().all():
        yield "the reloaded model has other logits than the one that was pruned in memory"


def difference(found: Tensor, expected: Tensor) -> float:
    """Of two Gram matrices, relative to the largest entry."""
    return float((found.double() - expected).abs().max() / expected.abs().max())
