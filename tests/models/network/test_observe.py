"""What models do is observed: in which order blocks run, what they hand on, who uses a weight."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.models import observed
from tests.models.families import FAMILIES
from tests.models.network.test_families import difference
from tests.models.tiny import prune, random_model, random_windows
from thanos_torch.models import PrunedLayer
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
    with Weights(model) as seen:
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
