"""What models do is observed: in which order blocks run, what they hand on, who uses a weight."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, RwkvConfig

from tests.models import observed
from tests.models.families import FAMILIES
from tests.models.network.test_families import difference
from tests.models.tiny import prune, random_model, random_windows
from thanos_torch import parse_pattern
from thanos_torch.models import LayerOptions, PrunedLayer, Rules
from thanos_torch.network import stand_ins
from thanos_torch.network.layers import model_layers
from thanos_torch.network.observe import observe
from thanos_torch.network.replay import Handing

LAST, WRITTEN, EVERY = Handing(), Handing(written=True), Handing(every=True)
MODELS: dict[str, tuple[Callable[[], Any], Handing]] = {
    "Gemma 3n": (observed.gemma3n_model, WRITTEN),
    "Gemma 4": (lambda: random_model(observed.gemma4()), WRITTEN),
    "XLM": (lambda: random_model(observed.xlm()), EVERY),
    "Mamba": (lambda: random_model(observed.mamba()), LAST),
    "CPM-Ant": (lambda: random_model(observed.cpmant()), LAST),
    "ModernBERT decoder": (lambda: random_model(observed.modern_bert_decoder()), LAST),
    **{
        f"sharing by {way}": (lambda way=way: observed.Sharing(way), WRITTEN)  # type: ignore[misc]
        for way in ("dict", "list", "object", "in place", "module")
    },
    "lists one after the other": (lambda: observed.Lists("chain"), LAST),
    "states changed in place": (lambda: observed.Lists("in place"), EVERY),
    "mean of all": (lambda: observed.Lists("mean of all"), EVERY),
    **{
        f"weights by {use}": (lambda use=use: observed.by_weight(use), LAST)  # type: ignore[misc]
        for use in ("linear", "transposed", "einsum", "copied")
    },
    **{
        f"layers that scale {way}": (lambda way=way: observed.scaling(way), LAST)  # type: ignore[misc]
        for way in ("its inputs", "some inputs")
    },
}


class Weights(torch.overrides.TorchFunctionMode):
    """Notes X Xᵀ of what is multiplied by a weight, in F.linear and @ alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        layers = model_layers(model)
        self._names = {id(layer.stored): name for name, layer in layers.items()}
        self._transposed = {id(layer.stored) for layer in layers.values() if layer.transposed}
        self.grams: dict[str, Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function; if it is a product with a weight, or with its transpose, note it."""
        factors = [each for each in args if isinstance(each, Tensor)]
        for each in factors:
            weight = each if each._base is None else each._base
            name = self._names.get(id(weight))
            others = [other for other in factors if other is not each]
            if name and others and func.__name__ in ("linear", "matmul", "__matmul__", "einsum"):
                on_the_left = factors[0] is each and func.__name__ != "linear"
                inputs = others[0].transpose(-1, -2) if on_the_left else others[0]
                flat = inputs.reshape(-1, inputs.shape[-1]).double()
                self.grams[name] = self.grams.get(name, 0) + flat.T @ flat
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def grams_of_a_plain_pass(model: Any, windows: Tensor) -> dict[str, Tensor]:
    seen = Weights(model)
    with seen:
        model(windows, use_cache=False)
    return seen.grams


@pytest.mark.parametrize("case", MODELS)
def test_every_layer_is_calibrated_by_what_it_reads_in_the_model(case: str) -> None:
    build, handing = MODELS[case]
    model = build().eval()
    dense, windows = copy.deepcopy(model), random_windows(3, 16)
    seen = observe(model, windows)
    assert seen.handing == handing
    grams: dict[str, Tensor] = {}

    def keep(layer: PrunedLayer) -> None:
        grams[layer.name] = layer.gram

    report = prune(model, "1:2", windows=windows, on_layer=keep, judge=None)
    assert [record.name for record in report.layers] == list(grams)
    half_pruned = dense
    for block, layers in zip(seen.blocks, seen.layers, strict=True):
        expected = grams_of_a_plain_pass(half_pruned, windows)
        for name in layers:
            if "copied" not in case:  # copies are seen by no test's mode
                assert difference(grams[name], expected[name]) < 1e-5, name
        pruned = model.get_submodule(block).state_dict()
        half_pruned.get_submodule(block).load_state_dict(pruned)


def test_a_layer_that_shares_some_of_its_inputs_has_a_matrix_of_its_own() -> None:
    torch.manual_seed(0)
    model = observed.Chain([observed.Again(), observed.Again()])
    seen = observe(model, random_windows())
    assert seen.alone == {"blocks.0.twice", "blocks.1.twice"}
    assert all(name == first for name, first in seen.reads.items())
    states = model.words(random_windows()).detach().double().view(-1, 12)
    grams: dict[str, Tensor] = {}
    report = prune(model, on_layer=lambda layer: grams.update({layer.name: layer.gram.double()}))
    assert report.verified
    once = states.T @ states
    twice = once + states.sin().T @ states.sin()
    for name, expected in (("once", once), ("twice", twice)):
        assert (grams[f"blocks.0.{name}"] - expected).abs().max() < 1e-5 * expected.max(), name


def test_lists_that_do_not_run_are_no_blocks() -> None:
    seen = observe(observed.Lists("chain"), random_windows(1, 8))
    assert list(seen.blocks) == ["early.0", "early.1", "early.2", "late.0", "late.1"]


def test_a_weight_whose_inputs_cannot_be_told_is_refused_unless_it_is_excluded() -> None:
    model = observed.by_weight("masked")
    with pytest.raises(ValueError, match=r"^blocks.0.up.weight: what .* aten.mul: .*exclude"):
        prune(model, "2:4")
    model.blocks[1] = observed.ByWeight("linear")
    pattern = Rules(LayerOptions(parse_pattern("2:4"), block_size=8), exclude=("blocks.0.*",))
    report = prune(model, pattern)
    assert report.verified
    assert sum(record.removed > 0 for record in report.layers) == 2


def test_a_layer_that_changes_its_weight_before_it_multiplies_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^blocks.0.up.weight: what .* aten.round: .*exclude"):
        prune(observed.scaling("rounded"), "2:4")


def rescaled() -> Any:
    """RWKV halves some of its weights in its first forward pass."""
    few = {"vocab_size": 256, "hidden_size": 16, "num_hidden_layers": 3, "context_length": 64}
    return random_model(RwkvConfig(**few, rescale_every=1))


@pytest.mark.parametrize("build", [rescaled, lambda: observed.scaling("clamped")])
def test_a_model_that_changes_its_weights_is_refused(build: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"because its forward pass changes its weights: \w"):
        prune(build(), "2:4")


@pytest.mark.parametrize("stored", [0, stand_ins.STORED])
def test_so_it_is_without_weights(stored: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_ins, "STORED", stored)
    with pytest.raises(ValueError, match="because its forward pass changes its weights"):
        observe(rescaled().to("meta"), random_windows(1, 8))


def test_a_model_of_chance_is_refused_with_that_reason() -> None:
    model = observed.chain()
    model.blocks[1].up.register_forward_hook(lambda *of: of[-1] + torch.randn(16))
    with pytest.raises(ValueError, match=r"blocks.1 returns something else each time that"):
        prune(model, "2:4")


def shared(way: str) -> Any:
    model: Any = observed.by_weight("linear") if way == "columns" else observed.chain()
    first, second = (block.up for block in model.blocks)
    if way == "two parameters":
        second.weight = nn.Parameter(first.weight)
    elif way == "data":
        second.weight.data = first.weight.data
    elif way == "transposed":
        second.weight.data = model.blocks[0].down.weight.data.T
    elif way == "some rows":
        rows = torch.randn(28, 12)
        first.weight.data, second.weight.data = rows[:16], rows[12:]
    elif way == "rows":
        rows = torch.randn(32, 12)
        first.weight.data, second.weight.data = rows[:16], rows[16:]
    elif way == "columns":
        columns = torch.randn(16, 24)
        first.weight.data, second.weight.data = columns[:, :12], columns[:, 12:]
    return model


@pytest.mark.parametrize("way", ["two parameters", "data", "transposed", "some rows"])
def test_weights_that_share_numbers_are_refused(way: str) -> None:
    with pytest.raises(ValueError, match=r"^blocks.[01].\w+ and blocks.[01].\w+ share one"):
        prune(shared(way), "2:4")


@pytest.mark.parametrize("way", ["rows", "columns"])
def test_weights_that_lie_side_by_side_are_pruned(way: str) -> None:
    assert prune(shared(way), "2:4").verified


def test_a_layer_whose_weight_is_computed_is_refused_unless_it_is_excluded() -> None:
    model = shared("not at all")
    nn.utils.parametrizations.weight_norm(model.blocks[0].up)
    with pytest.raises(ValueError, match=r"^blocks.0.up.weight is no parameter but computed"):
        prune(model, "2:4")
    asked = LayerOptions(parse_pattern("2:4"), block_size=8)
    assert prune(model, Rules(asked, exclude=("blocks.0.up",))).verified


class Adapted(nn.Module):
    """A linear layer with an adapter, by PEFT's names."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base_layer, self.lora_A, self.lora_B = base, nn.Linear(12, 4), nn.Linear(4, 16)

    def forward(self, states: Tensor) -> Tensor:
        out: Tensor = self.base_layer(states) + self.lora_B(self.lora_A(states))
        return out


def test_an_adapter_is_refused_unless_it_is_excluded() -> None:
    model = shared("not at all")
    model.blocks[0].up = Adapted(model.blocks[0].up)
    with pytest.raises(ValueError, match=r"^blocks.0.up.lora_A is part of an adapter around"):
        prune(model, "2:4")
    asked = LayerOptions(parse_pattern("2:4"), block_size=8)
    assert prune(model, Rules(asked, exclude=("*.lora_?",))).verified


def test_linear_layers_between_the_blocks_are_named() -> None:
    model: Any = observed.by_weight("linear")
    model.between = nn.Linear(12, 12)
    model.blocks[1].register_forward_pre_hook(lambda block, args: (model.between(args[0]),))
    assert "between.weight" in prune(model, "2:4").others


def test_a_block_inside_of_another_is_refused() -> None:
    model: Any = observed.by_weight("linear")
    model.blocks[1].inner = model.blocks[0]
    model.blocks[1].times = lambda states, weight: model.blocks[0](states)
    with pytest.raises(ValueError, match=r"runs its decoder block blocks.0 inside of blocks.1"):
        prune(model, "2:4")


def test_outputs_that_depend_on_what_nobody_hands_on_are_refused() -> None:
    model: Any = observed.by_weight("linear")
    secret: list[Tensor] = []
    first, second = (block.times for block in model.blocks)
    model.blocks[0].times = lambda states, weight: (
        secret.append(states) or first(states, weight)  # type: ignore[func-returns-value]
    )
    model.blocks[1].times = lambda states, weight: second(states, weight) + len(secret)
    with pytest.raises(ValueError, match=r"its decoder block blocks.1 returns something else"):
        prune(model, "2:4")


FOR_STAND_INS = ("Llama", "Mixtral", "GPT-2", "Gemma 3", "BLOOM", "GPT-OSS")


@pytest.mark.parametrize("family", FOR_STAND_INS)
@pytest.mark.parametrize("stored", [0, stand_ins.STORED])
def test_a_model_without_weights_shows_the_same(
    family: str, stored: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stand_ins, "STORED", stored)
    config = FAMILIES[family].config
    windows = random_windows(1, 16)
    real = observe(random_model(config), windows)
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config)
    seen = observe(empty, windows)
    assert all(weight.is_meta for weight in empty.parameters())
    assert list(seen.blocks) == list(real.blocks)
    assert (seen.handing, seen.multiplied, seen.hidden) == (Handing(), frozenset(), {})
    assert seen.table_alone
    dense = {name for group in real.layers for name, layer in group.items() if layer.expert is None}
    assert {name: first for name, first in seen.reads.items() if name in dense} == {
        name: first for name, first in real.reads.items() if name in dense
    }


def test_a_block_that_is_in_the_list_twice_runs_twice() -> None:
    model: Any = observed.by_weight("linear")
    model.blocks[0] = model.blocks[1]
    with pytest.raises(ValueError, match=r"runs its decoder block \d 2 times"):
        prune(model, "2:4")
