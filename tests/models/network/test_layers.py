"""A layer reads and writes its own part of a parameter, however that is stored."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from tests.models.tiny import FUSED, fused_module
from thanos_torch.network.layers import layers_of


def conv1d() -> Any:
    build: Any = Conv1D  # which lacks type hints
    return build(3, 4)


STORED: dict[str, tuple[Callable[[], Any], str, Tensor]] = {
    "linear": (lambda: nn.Linear(4, 3), "layer", FUSED[0]),
    "transposed": (conv1d, "layer", FUSED[0]),
    "expert": (lambda: fused_module(False), "layer.1.weight", FUSED[0]),
    "transposed expert": (lambda: fused_module(True), "layer.1.weight", FUSED.view(2, 4, 3)[1]),
}


@pytest.mark.parametrize("case", STORED)
def test_a_layer_writes_where_it_reads(case: str) -> None:
    build, name, weight = STORED[case]
    module = build()
    before = copy.deepcopy(module.state_dict())
    layer = {layer.name: layer for layer in layers_of(module, "layer")}[name]
    assert layer.parameter == "layer.weight"
    assert layer.shape == tuple(weight.shape)
    layer.write(weight)
    found = layer.read()
    assert torch.equal(found, weight)
    assert found.is_contiguous()
    found.zero_()
    assert torch.equal(layer.read(), weight)  # what was read is a copy
    held = module.weight[1] if layer.expert else module.weight
    assert torch.equal(held, weight.T if "transposed" in case else weight)
    if layer.expert:
        assert torch.equal(module.weight[0], before["weight"][0])
