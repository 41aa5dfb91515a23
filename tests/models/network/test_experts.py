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
from tests.models.observed import DBRX, JETMOE, LLAMA_4
from tests.models.tiny import (
    FUSED,
    fused_module,
    grams_by_hooks,
    prune,
    random_model,
    random_windows,
)
from thanos_torch.network.experts import FusedWeights, fused_weights
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


def seen_grams(model: Any) -> tuple[dict[str, Tensor], Any]:
    """The Gram matrices of a run that prunes the second and last block alone, and its report."""
    grams: dict[str, Tensor] = {}
    report = prune(
        model,
        on_layer=lambda seen: grams.update({seen.name: seen.gram.double()}),
        only=lambda index: index == 1,
    )
    return grams, report


def near(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).abs().max() <= 1e-5 * expected.abs().max())


def inputs_of(model: Any, module: Any) -> list[Any]:
    """What a module is called with, window by window."""
    calls: list[Any] = []
    hook = module.register_forward_pre_hook(lambda module, args: calls.append(args))
    with torch.no_grad():
        for window in random_windows():
            model(window[None])
    hook.remove()
    return calls


def squared(rows: list[Tensor]) -> Tensor:
    joined = torch.cat(rows).double()
    return joined.T @ joined


def test_experts_of_llama_4_are_calibrated_with_inputs_scaled_by_the_router() -> None:
    model = random_model(LLAMA_4)
    dense = copy.deepcopy(model)
    grams, report = seen_grams(model)
    moe = dense.model.layers[1].feed_forward
    first: list[list[Tensor]] = [[] for _ in range(4)]
    second: list[list[Tensor]] = [[] for _ in range(4)]
    for (states,) in inputs_of(dense, moe):
        tokens = states.reshape(-1, states.shape[-1])
        scores = torch.nn.functional.linear(tokens, moe.router.weight)
        for number in range(4):
            own = scores.argmax(dim=1) == number
            scaled = tokens[own] * scores[own, number, None].sigmoid()
            gate, up = (scaled @ moe.experts.gate_up_proj[number]).chunk(2, dim=1)
            first[number].append(scaled)
            second[number].append(up * F.silu(gate))
    layer = "model.layers.1.feed_forward.experts"
    for number in range(4):
        assert near(grams[f"{layer}.{number}.gate_up_proj"], squared(first[number]))
        assert near(grams[f"{layer}.{number}.down_proj"], squared(second[number]))
    assert not any(each.left_dense_unasked for each in report.layers)


def test_an_expert_of_llama_4_that_only_gets_zeros_has_no_token() -> None:
    model = random_model(LLAMA_4)
    report = prune(model, windows=random_windows(1, 1))
    dense = [each.name for each in report.layers if each.left_dense]
    assert len(dense) == 2 * 3 * len(model.model.layers)  # three experts of four, two layers each
    assert {each.left_dense for each in report.layers} == {"", "no calibration token reached it"}
    for name in dense:
        number, kind = name.split(".")[-2:]
        weight = getattr(model.get_submodule(name.rsplit(".", 2)[0]), kind)[int(number)]
        assert (weight != 0).all()


def test_experts_of_jetmoe_are_calibrated_with_their_tokens_also_in_attention() -> None:
    model = random_model(JETMOE)
    dense = copy.deepcopy(model)
    grams, _ = seen_grams(model)
    block = "model.layers.1"
    for part in ("mlp", "self_attention.experts"):
        for kind in ("input_linear", "output_linear"):
            module = dense.get_submodule(f"{block}.{part}.{kind}")
            rows: list[list[Tensor]] = [[] for _ in range(4)]
            for inputs, sizes in inputs_of(dense, module):
                for number, own in enumerate(inputs.split(sizes)):
                    rows[number].append(own)
            for number in range(4):
                name = f"{block}.{part}.{kind}.{number}.weight"
                assert near(grams[name], squared(rows[number])), name


def test_experts_of_dbrx_are_rows_of_a_matrix() -> None:
    model = random_model(DBRX)
    dense = copy.deepcopy(model)
    grams, report = seen_grams(model)
    mlp = dense.transformer.blocks[1].ffn.experts.mlp
    rows: list[list[Tensor]] = [[] for _ in range(4)]
    for tokens, w1, _, _ in inputs_of(dense, mlp):
        (number,) = (n for n in range(4) if torch.equal(w1, mlp.w1.view(4, 24, 16)[n]))
        rows[number].append(tokens)
    name = "transformer.blocks.1.ffn.experts.mlp"
    for number in range(4):
        for kind in ("w1", "v1"):
            assert near(grams[f"{name}.{number}.{kind}"], squared(rows[number]))
    shapes = {each.name: each.shape for each in report.layers}
    assert shapes[f"{name}.0.v1"] == (24, 16)
    assert shapes[f"{name}.0.w2"] == (16, 24)
    pruned = model.transformer.blocks[1].ffn.experts.mlp
    for kind in ("w1", "v1", "w2"):
        for number in range(4):  # half of each expert, not of all together
            assert (getattr(pruned, kind).view(4, 24, 16)[number] == 0).sum() == 192


def holding(**held: Any) -> Any:
    """A module with parameters of these shapes, and these attributes."""
    module: Any = torch.nn.Module()
    for name, value in held.items():
        whole = torch.nn.Parameter(torch.empty(value)) if isinstance(value, tuple) else value
        setattr(module, name, whole)
    return module


@pytest.mark.parametrize(
    ("held", "transposed"),
    [
        ({"gate_up_proj": (4, 8, 12), "down_proj": (4, 6, 8)}, True),
        ({"gate_up_proj": (4, 12, 8), "down_proj": (4, 8, 6)}, False),
        ({"gate_up_proj": (4, 8, 8), "down_proj": (4, 4, 8)}, True),
        ({"gate_up_proj": (4, 8, 8), "down_proj": (4, 8, 4)}, False),
        ({"up_proj": (4, 6, 8), "gate_proj": (4, 6, 8), "down_proj": (4, 8, 6)}, False),
        ({"weight": (4, 6, 8), "input_size": 8, "output_size": 6}, False),
        ({"weight": (4, 8, 6), "input_size": 8, "output_size": 6}, True),
        ({"weight": (4, 8, 6), "is_transposed": True}, True),
        ({"weight": (4, 8, 6)}, None),
        ({"weight": (4, 8, 6), "input_size": 8, "output_size": 7}, None),
        ({"gate_up_proj": (4, 8, 12), "down_proj": (4, 5, 8)}, None),
        ({"input_gate_weight": (4, 8, 8)}, None),
        ({"gate_up_proj": (4, 8, 12)}, None),
    ],
)
def test_the_layout_of_experts_is_told_by_attributes_or_shapes(
    held: dict[str, Any], transposed: bool | None
) -> None:
    found = fused_weights(holding(**held))
    shapes = [name for name, value in held.items() if isinstance(value, tuple)]
    expected = [] if transposed is None else [FusedWeights(n, 4, transposed) for n in shapes]
    assert found == expected


def test_slices_without_an_expert_are_no_layers() -> None:
    longer = holding(gate_up_proj=(6, 12, 8), down_proj=(4, 8, 6))
    assert [layer.name for layer in layers_of(longer, "m")] == [
        *(f"m.{number}.gate_up_proj" for number in range(4)),
        *(f"m.{number}.down_proj" for number in range(4)),
    ]
