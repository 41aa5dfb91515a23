"""Layers are pruned and judged where their block is held, or elsewhere."""

import pytest
import torch

from tests.models import tiny
from thanos_torch.models import prune_model


@pytest.mark.cuda
@pytest.mark.parametrize("solver", ["cpu", None])
def test_blocks_on_a_gpu_are_pruned_on_either_device(solver: str | None) -> None:
    model = tiny.random_model(tiny.llama_config())
    windows = torch.arange(64).reshape(2, 32) % 50
    seen = set()
    report = prune_model(
        model,
        windows,
        "2:4",
        device="cuda",
        solver_device=solver,
        on_layer=lambda layer: seen.add(layer.weight.device.type),
    )
    assert report.verified
    assert seen == {solver or "cuda"}
    assert all(layer.stored_exactly for layer in report.layers)
    assert {weight.device.type for weight in model.parameters()} == {"cpu"}
