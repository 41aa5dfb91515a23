"""Weights that a checkpoint has transposed, in parts, or with others': every command finds them."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.models import tiny
from tests.models.conftest import SMALL, Thanos
from tests.models.families import FAMILIES
from tests.models.observed import DBRX, inkling2
from thanos_torch.checkpoint.masks import Place
from thanos_torch.checkpoint.shards import tensor_files
from thanos_torch.checkpoint.streamed import first_rows, row_codes, taking_turns
from thanos_torch.models import (
    RECORD,
    load_model,
    pack_checkpoint,
    places_of,
    reapply_masks,
    unpack_checkpoint,
)
from thanos_torch.network.layers import model_layers

# A layer of each family, and the tensors of the checkpoint that hold its weight.
PLACES = {
    "GPT-2": {"transformer.h.1.mlp.c_fc": Place(("transformer.h.1.mlp.c_fc.weight",), True)},
    "Mixtral": {
        "model.layers.1.mlp.experts.2.gate_up_proj": Place(
            (
                "model.layers.1.block_sparse_moe.experts.2.w1.weight",
                "model.layers.1.block_sparse_moe.experts.2.w3.weight",
            )
        )
    },
    "Qwen3-MoE": {
        "model.layers.1.mlp.experts.3.down_proj": Place(
            ("model.layers.1.mlp.experts.3.down_proj.weight",)
        )
    },
    "GPT-OSS": {
        "model.layers.0.mlp.experts.1.gate_up_proj": Place(
            ("model.layers.0.mlp.experts.gate_up_proj",), True, 1
        )
    },
    "DBRX": {
        "transformer.blocks.1.ffn.experts.mlp.0.w2": Place(
            ("transformer.blocks.1.ffn.experts.mlp.w2",), True, 0, 4
        )
    },
    # Rows of the gate and of the up projection take turns.
    "Inkling 2": {
        "model.layers.1.mlp.experts.1.gate_up_proj": Place(
            ("model.llm.layers.1.mlp.experts.w13_weight",), False, 1, interleaved=2
        )
    },
}
CONFIGS = {name: family.config for name, family in FAMILIES.items()}
CONFIGS |= {"DBRX": DBRX, "Inkling 2": inkling2()}
# Experts that see too little of a text are left dense: enough of it that none is.
OPTIONS = ("--pattern", "2:4", *SMALL, "--nsamples", 24)


def change(folder: Path, name: str, row: int, column: int) -> None:
    """Put 3 where the first tensor of a layer has something else."""
    file = tensor_files(folder)[name]
    tensors = load_file(file)
    tensor: Tensor = tensors[name] if tensors[name].dim() == 2 else tensors[name][1]
    tensor[row, column] = 3.0
    save_file(tensors, file, metadata={"format": "pt"})


def a_zero_of(folder: Path, name: str, place: Place) -> tuple[int, int]:
    tensor = load_file(tensor_files(folder)[name])[name]
    row, column = ((tensor if tensor.dim() == 2 else tensor[place.expert or 0]) == 0).nonzero()[0]
    return int(row), int(column)


@pytest.mark.parametrize("family", PLACES)
def test_pruned_judged_damaged_and_mended(family: str, thanos: Thanos, tmp_path: Path) -> None:
    model = tiny.random_model(CONFIGS[family])
    dense = tiny.save_checkpoint(model, tmp_path / "dense")
    out, grams, tuned = (tmp_path / name for name in ("out", "grams", "tuned"))
    done = thanos("prune", dense, "--out", out, "--keep-gram", grams, *OPTIONS)
    assert done.status == 0, done.out + done.err
    record = json.loads((out / RECORD).read_text())
    names = [layer["name"] for layer in record["layers"]]
    places = places_of(record)
    assert list(places) == names
    ((layer, place),) = PLACES[family].items()
    assert places[layer] == place

    held, pruned = layers_of_folder(dense), layers_of_folder(out)
    for name in names:
        for folder, weights in ((dense, held), (out, pruned)):
            assert torch.equal(places[name].read(partial(read, folder)), weights[name]), name
    assert thanos("certify", dense, out, "--gram", grams).status == 0
    inspected = thanos("inspect", out)
    assert inspected.status == 0, inspected.out
    assert "All zeros hold." in inspected.out

    shutil.copytree(out, tuned)
    change(tuned, place.tensors[0], *a_zero_of(out, place.tensors[0], place))
    inspected = thanos("inspect", tuned)
    assert inspected.status == 1
    assert f"{layer}: 1 of {pruned[layer].numel() // 2} removed weights are" in inspected.out
    done = thanos("certify", dense, tuned, "--gram", grams)
    assert done.status == 1
    assert f"{layer} FAILED: counts" in done.out
    assert f"{len(names) - 1} of {len(names)} layers passed." in done.out
    assert reapply_masks(load_model(str(tuned)).model, out) == 1

    done = thanos("reapply", tuned, "--masks", out, "--out", tmp_path / "again")
    assert done.status == 0, done.err
    assert f"1 removed weights in 1 of {len(names)} layers were not zero" in done.out
    pack_checkpoint(out, tmp_path / "packed")
    unpack_checkpoint(tmp_path / "packed", tmp_path / "unpacked")
    for name, file in tensor_files(out).items():
        for again in ("again", "unpacked"):
            assert torch.equal(load_file(file)[name], read(tmp_path / again, name)), name


def read(folder: Path, name: str) -> Tensor:
    return load_file(tensor_files(folder)[name])[name]


def layers_of_folder(folder: Path) -> dict[str, Tensor]:
    layers = model_layers(load_model(str(folder)).model)
    return {name: layer.read() for name, layer in layers.items()}


def test_experts_that_share_a_tensor_with_judged_ones_are_compared(
    thanos: Thanos, tmp_path: Path
) -> None:
    dense = tiny.save_checkpoint(tiny.random_model(FAMILIES["GPT-OSS"].config), tmp_path / "dense")
    out, grams = tmp_path / "out", tmp_path / "grams"
    more = ("--exclude", "*experts.1.*", "--keep-gram", grams)
    assert thanos("prune", dense, "--out", out, *more, *OPTIONS).status == 0
    assert thanos("certify", dense, out, "--gram", grams).status == 0
    change(out, "model.layers.0.mlp.experts.gate_up_proj", 0, 0)
    done = thanos("certify", dense, out, "--gram", grams)
    assert done.status == 1
    assert "model.layers.0.mlp.experts.1.gate_up_proj was CHANGED" in done.out
    done = thanos("certify", dense, out, "--gram", grams, "--include", "*.mlp.experts.0.*")
    assert "12 layers that differ from the original were NOT judged" in done.out


def test_only_rows_in_their_order_are_found() -> None:
    codes = row_codes(torch.Size((2, 3, 5)))  # two experts of three rows
    parts = {"whole": codes[1], "half": codes[0, 1:], "mixed": codes[0][[1, 0]], "3-D": codes}
    assert first_rows(parts) == {"whole": 3, "half": 1}


@pytest.mark.parametrize("shape", [(6, 5), (2, 6, 5)], ids=str)
@pytest.mark.parametrize("number", [1, 2, 3, 6])
def test_rows_that_take_turns_are_found_read_and_written_back(
    shape: tuple[int, ...], number: int
) -> None:
    place = Place(("t",), False, 1 if len(shape) == 3 else None, interleaved=number)
    codes = row_codes(torch.Size(shape))
    weights = codes if len(shape) == 3 else codes[None]
    mixed = torch.stack([place.arranged(weight) for weight in weights]).view_as(codes)
    found = number if number < 6 else 1  # six parts of one row lie in order
    assert taking_turns({"t": mixed}, torch.Size(shape)) == {"t": found}
    assert taking_turns({"t": mixed.roll(1, -2)}, torch.Size(shape)) == {}
    assert torch.equal(place.read(lambda _: mixed), weights[-1])
    removed = torch.zeros(6, 1, dtype=torch.bool)
    removed[4] = True
    assert place.erase({"t": mixed}, removed) == 1
    assert torch.equal(place.read(lambda _: mixed), weights[-1].masked_fill(removed, 0))


def test_weights_that_are_rows_of_a_matrix_are_read_and_erased_alone() -> None:
    tensor, place = torch.arange(1.0, 13).view(6, 2), Place(("t",), True, 1, 3)
    weight = place.read(lambda _: tensor)
    assert torch.equal(weight, torch.tensor([[5.0, 7.0], [6.0, 8.0]]))
    assert place.erase({"t": tensor}, torch.tensor([[True, False], [False, True]])) == 2
    assert tensor.flatten().tolist() == [1, 2, 3, 4, 0, 6, 7, 0, 9, 10, 11, 12]
    with pytest.raises(ValueError, match=r"t of shape \(7, 2\) lacks 1"):
        place.read(lambda _: torch.ones(7, 2))


@pytest.mark.parametrize(
    "wrong", [{"stacked": 0, "expert": 0}, {"stacked": 2}, {"interleaved": 0}], ids=str
)
def test_a_place_that_contradicts_itself_is_refused(wrong: dict[str, int]) -> None:
    stored = {**Place(("t",)).as_dict(), **wrong}
    with pytest.raises(ValueError, match="contradicts itself"):
        Place.from_dict(stored)


def test_only_an_unusual_place_says_so() -> None:
    usual = {"tensors": ["t"], "transposed": False, "expert": None}
    assert Place(("t",)).as_dict() == usual
    unusual = Place(("t",), False, 1, 4, 2)
    assert unusual.as_dict() == {**usual, "expert": 1, "stacked": 4, "interleaved": 2}
    for place in (Place(("t",)), unusual):
        assert Place.from_dict(place.as_dict()) == place
