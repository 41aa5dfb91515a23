"""Every supported family: all its layers are pruned, by the right inputs, and certified."""

import copy
import re

import pytest
import torch
from torch import Tensor

from tests.models.families import FAMILIES
from tests.models.tiny import grams_by_hooks, prune, random_model, random_windows
from tests.test_imports import ROOT
from thanos_torch.network.layers import model_layers


def difference(found: Tensor, expected: Tensor) -> float:
    """Of two Gram matrices, relative to the largest entry."""
    return float((found.double() - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("family", FAMILIES)
def test_all_layers_are_pruned_and_certified_by_the_inputs_of_a_plain_forward_pass(
    family: str,
) -> None:
    """Of the model whose earlier blocks are pruned."""
    dense = random_model(FAMILIES[family].config)
    model = copy.deepcopy(dense)
    grams: dict[str, Tensor] = {}
    report = prune(model, on_layer=lambda seen: grams.update({seen.name: seen.gram}))
    expected_layers = FAMILIES[family].block(0) | FAMILIES[family].block(1)
    assert {record.name: record.shape for record in report.layers} == expected_layers
    assert report.verified
    assert report.sparsity == pytest.approx(0.5, abs=0.01)
    changed = {layer.parameter for layer in model_layers(model).values()}
    for name, before in dense.state_dict().items():
        assert torch.equal(model.state_dict()[name], before) is (name not in changed), name

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
