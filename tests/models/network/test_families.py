"""Every supported family: all its layers are pruned, certified, and come back from disk."""

import copy
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.models.families import FAMILIES
from tests.models.tiny import (
    grams_by_hooks,
    prune,
    random_model,
    random_windows,
    save_checkpoint,
)
from tests.test_imports import ROOT
from thanos_torch.models import MASKS, load_model, read_masks
from thanos_torch.models import save_checkpoint as save_pruned
from thanos_torch.network.layers import model_layers


@pytest.mark.parametrize("family", FAMILIES)
def test_all_layers_are_pruned_certified_and_come_back(family: str, tmp_path: Path) -> None:
    expected = FAMILIES[family].block(0) | FAMILIES[family].block(1)
    dense = random_model(FAMILIES[family].config)
    loaded = load_model(str(save_checkpoint(dense, tmp_path / "dense")))
    report = prune(loaded.model, "2:4")
    assert {record.name: record.shape for record in report.layers} == expected
    assert report.verified
    assert report.sparsity == 0.5

    save_pruned(loaded, tmp_path / "pruned", record={}, masks=report.masks)
    again = load_model(str(tmp_path / "pruned")).model
    masks = read_masks(tmp_path / "pruned" / MASKS)
    layers = model_layers(again)
    assert set(masks) == set(layers) == set(expected)
    for name, layer in layers.items():
        zeros = layer.read() == 0
        assert torch.equal(zeros, masks[name].unpacked()), name
        assert (zeros.view(len(zeros), -1, 4).sum(dim=-1) == 2).all(), name
    changed = {layer.parameter for layer in layers.values()}
    for name, before in dense.state_dict().items():
        assert torch.equal(again.state_dict()[name], before) is (name not in changed), name

    windows = random_windows()
    with torch.no_grad():
        assert torch.equal(again(windows).logits, loaded.model(windows).logits)


def difference(found: Tensor, expected: Tensor) -> float:
    """Of two Gram matrices, relative to the largest entry."""
    return float((found.double() - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("family", FAMILIES)
def test_calibration_inputs_are_those_of_a_plain_forward_pass(family: str) -> None:
    """Of the model whose earlier blocks are pruned."""
    dense = random_model(FAMILIES[family].config)
    model = copy.deepcopy(dense)
    grams: dict[str, Tensor] = {}
    prune(model, on_layer=lambda seen: grams.update({seen.name: seen.gram}))

    half_pruned = copy.deepcopy(dense)
    for index in (0, 1):
        names = list(FAMILIES[family].block(index))
        expected = grams_by_hooks(half_pruned, random_windows(), names)
        from_dense = grams_by_hooks(dense, random_windows(), names)
        for name in names:
            assert difference(grams[name], expected[name]) < 1e-5, name
            assert index == 0 or difference(grams[name], from_dense[name]) > 1e-2, name
        block = f"{FAMILIES[family].blocks}.{index}"
        pruned = model.get_submodule(block).state_dict()
        half_pruned.get_submodule(block).load_state_dict(pruned)


def test_the_page_lists_these_families_and_their_layers() -> None:
    page = (ROOT / "docs" / "models.md").read_text()
    rows = re.findall(r"^\| (\w.*) \| `([\w.]+)` \| (.*) \|$", page, re.MULTILINE)
    listed = {name: (blocks, cell) for names, blocks, cell in rows for name in names.split(", ")}
    assert set(listed) == set(FAMILIES)
    for name, family in FAMILIES.items():
        blocks, cell = listed[name]
        assert blocks == family.blocks
        if family.second:
            assert cell == "as Mixtral, and in blocks without experts as Llama"
            assert family.first == FAMILIES["Llama"].first
        kinds = {re.sub(r"\.\d+\.", ".*.", layer) for layer in family.second or family.first}
        of = listed["Mixtral"][1] if family.second else cell
        assert kinds == set(re.findall(r"`([^`]+)`", of)), name
