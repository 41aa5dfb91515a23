"""Experts are slices of one parameter: read, written, and watched each for itself."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Qwen3MoeConfig

from tests.models.families import EXPERTS, FAMILIES
from tests.models.tiny import (
    FUSED,
    fused_module,
    grams_by_hooks,
    prune,
    random_model,
    random_windows,
)
from thanos_torch.network.grams import InputGrams
from thanos_torch.network.layers import PrunableLayer, layers_of, model_layers
from thanos_torch.network.observe import observe
from thanos_torch.network.products import WeightProducts
from thanos_torch.runtime.clock import Stopwatch


def test_experts_without_tokens_stay_dense_and_are_reported() -> None:
    few = {**EXPERTS, "num_hidden_layers": 1, "moe_intermediate_size": 16, "num_experts": 8}
    model = random_model(Qwen3MoeConfig(**few))
    dense = copy.deepcopy(model)
    windows = random_windows(1, 3)  # two experts each: six of eight at most
    report = prune(model, windows=windows)
    names = [record.name for record in report.layers]
    reached = grams_by_hooks(dense, windows, names)
    assert 2 <= len(set(names) - set(reached)) <= 14
    experts = model.model.layers[0].mlp.experts
    for record in report.layers:
        assert record.verified is (record.name in reached), record.name
        assert (record.left_dense == "no calibration token reached it") is not record.verified
        if record.left_dense:
            number, kind = record.name.split(".")[-2:]
            before = getattr(dense.model.layers[0].mlp.experts, kind)[int(number)]
            assert torch.equal(getattr(experts, kind)[int(number)], before)
    assert not report.verified


def experts_of_mixtral() -> tuple[Any, dict[str, PrunableLayer]]:
    model = random_model(FAMILIES["Mixtral"].config)
    experts = {n: each for n, each in model_layers(model).items() if each.expert is not None}
    return model, {n: each for n, each in experts.items() if n.startswith("model.layers.0.")}


def test_some_experts_can_be_watched_without_the_others() -> None:
    model, layers = experts_of_mixtral()
    name = "model.layers.0.mlp.experts.1.down_proj"
    windows = random_windows()
    seen = observe(model, windows)
    with InputGrams({name: layers[name]}, Stopwatch("cpu", ("gram",))) as inputs:
        for _ in seen.replay([windows], "cpu").run(0):
            assert model.config._experts_implementation == "eager"
    assert model.config._experts_implementation == "grouped_mm"
    assert set(inputs.grams) == {name}
    found, expected = inputs.matrix(name), grams_by_hooks(model, windows, [name])[name]
    assert found is not None
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def watched(layers: Iterable[PrunableLayer], look: Callable[..., None]) -> WeightProducts:
    def hidden(layer: PrunableLayer, operation: str) -> None:
        raise ValueError(f"{layer.parameter}: {operation}")

    return WeightProducts(layers, look, hidden)


def test_products_are_recognised_however_they_are_written() -> None:
    module = fused_module(True)  # 2 experts, 3 inputs, 4 outputs
    seen: list[tuple[str, Tensor]] = []
    inputs = torch.ones(5, 3)
    watch = watched(layers_of(module, "m"), lambda *s: seen.append(s))
    with torch.no_grad(), watch:
        first = module.weight[0]
        products = [
            inputs @ first,
            torch.matmul(inputs, module.weight[torch.tensor(0)]),
            torch.mm(inputs, first),
            inputs.mm(first),
            inputs.matmul(first),
            F.linear(inputs, first.T),
            (first.T @ inputs.T).T,
            F.linear(inputs.double(), module.weight.detach()[0].double().T).float(),
            torch.einsum("tb,bc->tc", inputs, first),
            torch.addmm(torch.zeros(4), inputs, module.weight.data[0]),
            torch.bmm(inputs[None].expand(2, 5, 3), first.expand(2, 3, 4))[1],
            torch.stack([first.T @ row for row in inputs]),
        ]
        assert module.weight.shape == (2, 3, 4)
    assert all(torch.equal(product, inputs @ FUSED[0]) for product in products)
    assert {name for name, _ in seen} == {"m.0.weight"}
    rows = [batch.reshape(-1, 3) for _, batch in seen]
    assert all(torch.equal(batch, torch.ones_like(batch)) for batch in rows)
    assert [len(batch) for batch in rows] == [5] * 10 + [10] + [1] * 5


@pytest.mark.parametrize(
    "use",
    [
        lambda weight: weight[torch.tensor([0, 1])],
        lambda weight: torch.ones(5, 2) @ weight[0, :2],  # rows of one expert
        lambda weight: torch.einsum("tb,ebc->etc", torch.ones(5, 3), weight),
        lambda weight: torch.ones(5, 4) @ weight[0].T,  # another layer's weight: the transpose
        lambda weight: weight[0] * 2,
        lambda weight: (torch.ones(5, 1, 3) * weight[0].T).sum(-1),
        lambda weight: torch.stack([weight[0]]),
    ],
)
def test_weights_that_leave_our_sight_are_refused(use: Callable[[Tensor], Tensor]) -> None:
    module = fused_module(True)
    watch = watched(layers_of(module, "m"), lambda name, inputs: None)
    with torch.no_grad(), watch, pytest.raises(ValueError, match=r"m.weight: aten"):
        use(module.weight)
