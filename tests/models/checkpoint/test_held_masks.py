"""Masks that are held while a model is trained: under wrappers, in shards, or refused."""

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.utils import parametrize

from tests.models import tiny
from tests.models.families import FAMILIES
from tests.models.processes import on_ranks
from thanos_torch.models import HeldMasks, PackedMask, reapply_masks
from thanos_torch.network.layers import PrunableLayer, model_layers

Masks = dict[str, PackedMask]
LLAMA = tiny.llama_config()
Q_PROJ = "model.layers.0.self_attn.q_proj"


def pruned(config: Any = LLAMA, dtype: torch.dtype = torch.float32) -> tuple[Any, Masks]:
    """A model with about half of its layers' weights at zero, and the masks of these."""
    model = tiny.random_model(config, dtype)
    masks: Masks = {}
    for name, layer in model_layers(model).items():
        removed = torch.rand(layer.shape) < 0.5
        layer.write(layer.read().masked_fill(removed, 0.0))
        masks[name] = PackedMask.of(removed)
    return model, masks


def lost(layers: dict[str, PrunableLayer], masks: Masks) -> int:
    """How many removed weights are not zero; shards are gathered."""
    count = 0
    for name, layer in layers.items():
        weight = whole(layer) if layer.expert is None else whole(layer)[layer.expert]
        count += int(
            ((weight.T if layer.transposed else weight)[masks[name].unpacked()] != 0).sum()
        )
    return count


def train(model: nn.Module, held: HeldMasks, steps: int = 2) -> Any:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    optimizer.register_step_post_hook(held)
    windows = tiny.random_windows(2)
    for _ in range(steps):
        optimizer.zero_grad()
        model(windows, labels=windows).loss.backward()
        optimizer.step()
    return optimizer


def whole(layer: PrunableLayer) -> Tensor:
    stored: Any = layer.stored
    found: Tensor = stored.full_tensor() if hasattr(stored, "full_tensor") else stored
    return found.clone()


def of_a_rank(family: str, before: bool) -> tuple[int, bool, int, bool]:
    """Train a sharded model; zeros lost, and whether weights moved at all.

    before  the masks are held before the model is sharded, block by block; else after, as a whole
    """
    model, masks = pruned(FAMILIES[family].config)
    layers = model_layers(model)
    first = next(iter(layers.values()))
    old = whole(first)
    held = HeldMasks(model, masks) if before else None
    blocks = next(each for each in model.modules() if isinstance(each, nn.ModuleList))
    for block in blocks if before else ():
        fully_shard(block)
    fully_shard(model)
    held = held or HeldMasks(model, masks)
    train(model, held)
    result = lost(layers, masks), not torch.equal(whole(first), old)
    with torch.no_grad():
        for layer in layers.values():
            layer.stored.add_(1.0)
        model(tiny.random_windows(1))  # without a backward pass gathered copies stay in place
        gathered = not hasattr(first.stored, "full_tensor")
        held.apply()
        model.reshard()
    return *result, lost(layers, masks), gathered


@pytest.mark.parametrize(
    ("family", "ranks", "before"),
    [("Llama", 1, True), ("GPT-2", 3, False), ("Mixtral", 2, True)],
)
def test_every_rank_holds_its_shards(tmp_path: Path, family: str, ranks: int, before: bool) -> None:
    for result in on_ranks(ranks, lambda _: of_a_rank(family, before), tmp_path):
        assert result == (0, True, 0, not before)


def of_a_rank_of_fsdp1(before: bool) -> tuple[str, bool]:
    """What is said when a model of FSDP1 is trained, and whether weights moved."""
    model, masks = pruned()
    held = HeldMasks(model, masks) if before else None
    wrapped = FullyShardedDataParallel(model, device_id=torch.device("cpu"))
    old = [weight.clone() for weight in wrapped.parameters()]
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=1.0)
    message = "nothing"
    try:
        optimizer.register_step_post_hook(held or HeldMasks(wrapped, masks))
        for weight in wrapped.parameters():
            weight.grad = torch.ones_like(weight)
        optimizer.step()
    except ValueError as error:
        message = str(error)
    return message, not all(map(torch.equal, old, wrapped.parameters()))


def test_flat_parameters_are_refused_before_weights_move(tmp_path: Path) -> None:
    results = on_ranks(2, lambda _: [of_a_rank_of_fsdp1(each) for each in (True, False)], tmp_path)
    for message, moved in chain(*results):
        assert "q_proj: Linear.weight is no parameter of its own" in message
        assert "fully_shard (FSDP2)" in message
        assert not moved


class Adapter(nn.Module):
    """As PEFT's LoRA layer: beside the layer that it wraps, two small ones."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.base_layer = layer
        columns, rows = layer.weight.shape[-1], layer.weight.shape[0]
        self.lora_A = nn.ModuleDict({"default": nn.Linear(columns, 2, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(2, rows, bias=False)})

    @property
    def weight(self) -> Tensor:
        weight: Tensor = self.base_layer.weight
        return weight

    def forward(self, states: Tensor) -> Any:
        return self.base_layer(states) + self.lora_B["default"](self.lora_A["default"](states))


class Inside(nn.Module):
    """A module that calls another one, which it has under a name of several parts."""

    def __init__(self, model: nn.Module, *path: str) -> None:
        super().__init__()
        self.inner = model
        here: nn.Module = self
        for name in path:
            here.add_module(name, nn.Module())
            here = here.get_submodule(name)
        if path:
            del self.inner
            here.add_module("model", model)
        self.called = [model]

    def forward(self, *args: Any, **options: Any) -> Any:
        return self.called[0](*args, **options)


class Saved(nn.Module):
    """As PEFT's modules_to_save: the original layer, and the copy that is trained and used."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.original_module = layer
        copy = nn.Linear(layer.in_features, layer.out_features, bias=False)
        copy.load_state_dict(layer.state_dict())
        self.modules_to_save = nn.ModuleDict({"default": copy})

    def forward(self, states: Tensor) -> Any:
        return self.modules_to_save["default"](states)


def on_each_layer(wrapper: Callable[[Any], nn.Module]) -> Callable[[Any], Any]:
    def wrap(model: Any) -> Any:
        for block in model.model.layers:
            block.self_attn.q_proj = wrapper(block.self_attn.q_proj)
            block.mlp.down_proj = wrapper(block.mlp.down_proj)
        return model.train()

    return wrap


def on_each_block(wrapper: Callable[[Any], nn.Module]) -> Callable[[Any], Any]:
    def wrap(model: Any) -> Any:
        for number, block in enumerate(model.model.layers):
            model.model.layers[number] = wrapper(block)
        return model.train()

    return wrap


def compiled(module: Any) -> Any:
    return torch.compile(module, backend="eager")


def lora(model: Any) -> nn.Module:
    return Inside(on_each_layer(Adapter)(model), "base_model")


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "DataParallel": nn.DataParallel,
    "DDP's prefix": lambda model: Inside(model, "module"),
    "torch.compile": compiled,
    "compiled blocks": on_each_block(compiled),
    "checkpointed blocks": on_each_block(checkpoint_wrapper),
    "LoRA": lora,
    "LoRA in DataParallel": lambda model: nn.DataParallel(lora(model)),
    "modules to save": on_each_layer(Saved),
    "another module": Inside,
}


@pytest.mark.parametrize("before", [True, False], ids=["held, then wrapped", "wrapped, then held"])
@pytest.mark.parametrize("name", WRAPPERS)
def test_wrapped_layers_are_found(name: str, before: bool) -> None:
    model, masks = pruned()
    layers = model_layers(model)
    held = HeldMasks(model, masks) if before else None
    wrapped = WRAPPERS[name](model)
    held = held or HeldMasks(wrapped, masks)
    with torch.compiler.set_stance("force_eager"):  # because to compile takes ten seconds
        train(wrapped, held, steps=1)
    assert lost(layers, masks) == 0
    copies = [each for each in model.modules() if isinstance(each, Saved)]
    if not before:  # copies that were made later belong to no layer yet
        for number, copy in enumerate(copies):
            layer = (
                f"model.layers.{number // 2}." + ("self_attn.q_proj", "mlp.down_proj")[number % 2]
            )
            trained: Any = copy.modules_to_save["default"]
            assert not trained.weight[masks[layer].unpacked()].any()


class Unknown(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.hidden = layer


def first_layer(model: Any) -> Any:
    return model.model.layers[0].self_attn.q_proj


def emptied(model: Any) -> None:
    """As ZeRO-3 has parameters between two uses of them."""
    for weight in model.parameters():
        weight.data = torch.empty(0)


def flattened(model: Any) -> None:
    """As a rank of FSDP1 has them, with use_orig_params."""
    first_layer(model).weight.data = first_layer(model).weight.data.flatten()[:100]


def on_meta(model: Any) -> None:
    model.to("meta")


def quantised(model: Any) -> None:
    first_layer(model).weight = nn.Parameter(
        torch.zeros(16, 16, dtype=torch.int8), requires_grad=False
    )


def parametrized(model: Any) -> None:
    parametrize.register_parametrization(first_layer(model), "weight", nn.Identity())


def replaced(model: Any) -> None:
    model.model.layers[0].self_attn.q_proj = nn.Linear(16, 16, bias=False)


BROKEN: dict[str, tuple[Callable[[Any], None], str]] = {
    "emptied": (emptied, r"q_proj has a weight of the shape \(0,\).*FSDP1 or ZeRO-3"),
    "flattened": (flattened, r"q_proj has a weight of the shape \(100,\).*FSDP1 or ZeRO-3"),
    "meta": (on_meta, "q_proj is on the meta device: load its weights first"),
    "quantised": (quantised, "q_proj holds torch.int8, not its weights themselves"),
    "parametrized": (parametrized, "q_proj: Param.*Linear.weight is no parameter of its own"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_weights_that_cannot_be_held_are_refused_at_once(case: str) -> None:
    model, masks = pruned()
    BROKEN[case][0](model)
    with pytest.raises(
        ValueError, match=f"^masks: {Q_PROJ}.*{BROKEN[case][1].partition('q_proj')[2]}"
    ):
        HeldMasks(model, masks)


@pytest.mark.parametrize("case", [*BROKEN, "replaced"])
def test_weights_that_can_be_held_no_more_are_refused_before_they_move(case: str) -> None:
    change, message = BROKEN.get(case, (replaced, "q_proj was replaced in the model"))
    model, masks = pruned()
    held = HeldMasks(model, masks)
    optimizer = torch.optim.SGD([model.lm_head.weight], lr=1.0)
    optimizer.register_step_post_hook(held)
    change(model)
    weight = nn.Parameter(torch.ones(2))
    other = torch.optim.SGD([weight], lr=1.0)
    weight.grad = torch.ones(2)
    other.step()  # of another model: no concern of these masks
    assert not weight.any()
    optimizer.param_groups[0]["params"] = [weight]
    with pytest.raises(ValueError, match=f"^masks: .*{message}"):
        optimizer.step()
    assert not weight.any()


def test_optimizers_of_the_model_are_refused_without_a_hook() -> None:
    model, masks = pruned()
    held = HeldMasks(model, masks)
    parametrized(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with pytest.raises(ValueError, match="is no parameter of its own"):
        optimizer.step()
    with pytest.raises(ValueError, match="is no parameter of its own"):
        held.apply()


def test_masks_that_nobody_has_check_nothing() -> None:
    model, masks = pruned()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    assert reapply_masks(model, masks) == 0
    parametrized(model)
    optimizer.step()


def test_fused_experts_in_pieces_are_named() -> None:
    model, masks = pruned(FAMILIES["Mixtral"].config)
    emptied(model)
    experts = {name: mask for name, mask in masks.items() if "experts" in name}
    with pytest.raises(ValueError, match=r"mlp.experts is a MixtralExperts; .*FSDP1 or ZeRO-3"):
        HeldMasks(model, experts)


def test_unknown_wrappers_and_copies_are_named() -> None:
    model, masks = pruned()
    first = model.model.layers[0].self_attn
    first.q_proj = Unknown(first.q_proj)
    with pytest.raises(
        ValueError, match=f"has no layer {Q_PROJ}: .*self_attn.q_proj is a Unknown$"
    ):
        HeldMasks(model, masks)
    student, masks = pruned()
    both = nn.ModuleDict({"student": student, "teacher": pruned()[0]})
    message = f"{Q_PROJ} is several layers of the model: student.{Q_PROJ}, teacher.{Q_PROJ}"
    with pytest.raises(ValueError, match=message):
        HeldMasks(both, masks)
    both["teacher"] = student
    assert HeldMasks(both, masks).apply() == 0


def cast(model: Any) -> Any:
    return model.to(torch.bfloat16)


def assigned(model: Any) -> Any:
    state = {name: weight.double() for name, weight in model.state_dict().items()}
    model.load_state_dict(state, assign=True)
    return model


def checkpointed(model: Any) -> Any:
    model.activation_checkpointing_enable()
    return model


@pytest.mark.parametrize("change", [cast, assigned, checkpointed])
def test_parameters_may_change_after_that(change: Callable[[Any], Any]) -> None:
    model, masks = pruned()
    held = HeldMasks(model, masks)
    model = change(model.train())
    train(model, held)
    assert lost(model_layers(model), masks) == 0


def test_closures_scalers_and_several_optimizers() -> None:
    model, masks = pruned()
    layers, held, windows = model_layers(model), HeldMasks(model, masks), tiny.random_windows(2)

    def closure() -> Any:
        model.zero_grad()
        loss = model(windows, labels=windows).loss
        scaler.scale(loss).backward()
        return loss

    scaler = torch.amp.GradScaler("cpu")

    search: Any = torch.optim.LBFGS(model.parameters(), lr=1e-2, max_iter=3)
    search.register_step_post_hook(held)
    search.step(closure)
    assert lost(layers, masks) == 0
    halves = [
        torch.optim.AdamW(list(part.parameters()), lr=1e-2) for part in model.model.layers[:2]
    ]
    closure()
    for optimizer in halves:
        optimizer.register_step_post_hook(held)
        scaler.step(optimizer)
        assert lost(layers, masks) == 0
