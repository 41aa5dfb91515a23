"""Hold the removed weights of a model at zero while it is trained, also wrapped or sharded."""

import re
import weakref
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from thanos_torch.checkpoint.masks import PackedMask, erase, read_masks
from thanos_torch.network.layers import PrunableLayer, layers_of
from thanos_torch.runtime.arguments import checked

Masks = Mapping[str, PackedMask] | str | Path

# What wrappers put into the path of a module: PEFT, torch.compile, FSDP, activation checkpointing,
# and DataParallel and its relatives.
_WRAPPERS = re.compile(
    r"\.(base_layer|original_module|modules_to_save\.[^.]+|_orig_mod|_fsdp_wrapped_module"
    r"|_checkpoint_wrapped_module|module)(?=\.|$)"
)
_WHOLE = (
    "masks need whole weights, or shards of fully_shard (FSDP2); under FSDP1 or ZeRO-3 train "
    "without them, and run `thanos reapply` on the saved checkpoint"
)


class HeldMasks:
    """Sets the removed weights of a model to zero again whenever it is called.

    Give it to `optimizer.register_step_post_hook`: then no step brings a removed weight back. The
    model may be wrapped, and sharded by `fully_shard`, before or after: every rank holds its own
    shard. What cannot be held raises ValueError here, or before the next step moves a weight.
    """

    @checked()
    def __init__(self, model: nn.Module, masks: Masks) -> None:
        """Raises ValueError, naming the layer, if the model lacks it or cannot hold its mask.

        masks  the folder of the pruned checkpoint, its file of masks, or what `read_masks` returns
        """
        if isinstance(masks, str | Path):
            masks = read_masks(masks)
        self._model = model
        parameters: dict[tuple[int, str], _HeldParameter] = {}
        for layer, mask in _layers_with(masks, model):
            own = layer.parameter.rpartition(".")[2]
            held = parameters.setdefault((id(layer.module), own), _HeldParameter(layer.module, own))
            held.add(layer, mask)
        self._held = list(parameters.values())
        self.check()
        # Post hooks are too late to refuse a step: the weights have moved.
        before = weakref.WeakMethod(self._before_step)
        hook = register_optimizer_step_pre_hook(lambda optimizer, *_: _call(before, optimizer))
        weakref.finalize(self, hook.remove)

    def __call__(self, *_: Any) -> None:
        """Set the removed weights to zero; the arguments that a hook gets are ignored."""
        self.apply()

    @torch.no_grad()
    def apply(self) -> int:
        """Set the removed weights to zero; returns how many were not zero, on this rank.

        Raises ValueError as `check` does.
        """
        self.check()
        return sum(erase(*held.parts()) for held in self._held)

    @torch.no_grad()
    def check(self) -> None:
        """Raise ValueError, naming the layer, if the masks cannot be held any more."""
        from torch.distributed.fsdp import FSDPModule  # takes a second, and few need it

        inside = set()
        for module in self._model.modules():
            inside.add(id(module))
            if isinstance(module, FSDPModule):
                module.reshard()  # else its layers may show gathered copies of their shards
        for held in self._held:
            if id(held.module) not in inside:
                raise ValueError(
                    f"masks: {held.name} was replaced in the model: make HeldMasks anew after that"
                )
            held.parts()

    def _before_step(self, optimizer: Any) -> None:
        """Check before an optimizer moves weights of the model, or calls these masks afterwards."""
        calls = getattr(optimizer, "_optimizer_step_post_hooks", {}).values()
        moved = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
        if self in calls or not moved.isdisjoint(map(id, self._model.parameters())):
            self.check()


def _call(method: Any, argument: Any) -> None:
    """Call a weak method if its object is still there."""
    if (strong := method()) is not None:
        strong(argument)


class _HeldParameter:
    """A parameter with the masks of its layers: one, or as many as there are fused experts.

    The parameter is looked up each time, because sharding, casting and loading replace it.

    name    of its first layer, for messages
    module  the module that owns it
    """

    def __init__(self, module: nn.Module, attribute: str) -> None:
        self.name, self.module, self._attribute = "", module, attribute
        self._masks: list[tuple[PrunableLayer, PackedMask]] = []
        self._key: Any = None
        self._removed = torch.empty(0)

    def add(self, layer: PrunableLayer, mask: PackedMask) -> None:
        """Add the mask of a layer. Raises ValueError unless it has the layer's shape."""
        self.name = self.name or layer.name
        stored = self._parameter()
        if stored.dim() != (2 if layer.expert is None or layer.stacked else 3):
            raise ValueError(f"masks: {layer.name} has a weight of {_shape(stored)}: {_WHOLE}")
        check_shape(layer.name, layer.shape, mask)
        self._masks.append((layer, mask))

    @torch.no_grad()
    def parts(self) -> tuple[Tensor, Tensor]:
        """The parameter, or this rank's shard of it, and where its weights were removed.

        Raises ValueError if the masks do not fit what the module has.
        """
        from torch.distributed.tensor import DTensor

        stored = self._parameter()
        local = stored.to_local() if isinstance(stored, DTensor) else stored
        key = (stored.shape, local.shape, local.device, getattr(stored, "placements", None))
        if key != self._key:
            removed = self._whole()
            if isinstance(stored, DTensor):
                removed = self._shard(removed, stored)
            if local.shape != removed.shape:
                raise ValueError(
                    f"masks: {self.name} has a weight of {_shape(local)}, its mask "
                    f"{tuple(removed.shape)}: {_WHOLE}"
                )
            self._key, self._removed = key, removed.to(local.device)
        return local, self._removed

    def _parameter(self) -> Tensor:
        """The parameter. Raises ValueError if there is none that can be set to zero."""
        stored = self.module._parameters.get(self._attribute)
        if stored is None:  # it is calculated, or a view of a flat parameter
            raise ValueError(
                f"masks: {self.name}: {type(self.module).__name__}.{self._attribute} is no "
                f"parameter of its own (parametrized, or in a flat one): {_WHOLE}"
            )
        if stored.is_meta:
            raise ValueError(f"masks: {self.name} is on the meta device: load its weights first")
        if not stored.is_floating_point():
            raise ValueError(f"masks: {self.name} holds {stored.dtype}, not its weights themselves")
        return stored

    def _whole(self) -> Tensor:
        """The mask of the whole parameter, as it is stored."""
        whole = None
        for layer, mask in self._masks:
            removed = mask.unpacked().T if layer.transposed else mask.unpacked()
            if layer.expert is None:
                return removed
            if whole is None:
                count = layer.stacked or len(self._parameter())
                whole = torch.zeros(count, *removed.shape, dtype=torch.bool)
            whole[layer.expert] = removed
        assert whole is not None
        return whole.flatten(0, 1) if layer.stacked else whole

    def _shard(self, removed: Tensor, stored: Any) -> Tensor:
        """This rank's part of a mask. Every dimension of the mesh cuts what the last one left."""
        from torch.distributed.tensor import Replicate, Shard

        for dimension, placement in enumerate(stored.placements):
            if type(placement) is Shard:
                parts = removed.chunk(stored.device_mesh.size(dimension), placement.dim)
                rank = stored.device_mesh.get_local_rank(dimension)
                empty = removed.narrow(placement.dim, 0, 0)
                removed = parts[rank] if rank < len(parts) else empty
            elif type(placement) is not Replicate:
                raise ValueError(f"masks: {self.name} is sharded as {placement}: {_WHOLE}")
        return removed


def _shape(weight: Tensor) -> str:
    return f"the shape {tuple(weight.shape)}"


def check_shape(name: str, shape: tuple[int, ...], mask: PackedMask) -> None:
    """Raise ValueError unless the mask of a layer has its shape, (c, b)."""
    if tuple(shape) != mask.shape:
        raise ValueError(f"masks: {name} has the shape {tuple(shape)}, its mask {mask.shape}")


def _layers_with(
    masks: Mapping[str, PackedMask], model: nn.Module
) -> list[tuple[PrunableLayer, PackedMask]]:
    """The layers that masks belong to, under any wrappers; several if a wrapper holds copies.

    Raises ValueError for a layer that is not found, or in several places.
    """
    modules: defaultdict[str, list[nn.Module]] = defaultdict(list)
    for path, module in model.named_modules(remove_duplicate=False):
        modules[_unwrapped(path)].append(module)
    # A model inside of another module: its layers' paths end with their names.
    places: defaultdict[str, dict[str, list[PrunableLayer]]] = defaultdict(dict)
    for path, same in modules.items():
        for module in {id(module): module for module in same}.values():
            for layer in layers_of(module, path):
                parts = layer.name.split(".")
                for start in range(len(parts)):
                    ending = places[".".join(parts[start:])]
                    ending.setdefault(layer.name, []).append(layer)
    found = []
    for name, mask in masks.items():
        own = _unwrapped(name)
        candidates = places[own]
        distinct = {id(layer.module) for layers in candidates.values() for layer in layers}
        if own not in candidates and len(candidates) > 1 and len(distinct) > 1:
            places_found = ", ".join(sorted(candidates))
            raise ValueError(f"masks: {name} is several layers of the model: {places_found}")
        layers = candidates.get(own) or next(iter(candidates.values()), [])
        if not layers:
            raise ValueError(f"masks: the model has no layer {name}{_instead(own, modules)}")
        found += [(layer, mask) for layer in layers]
    return found


def _unwrapped(path: str) -> str:
    """The path of a module without what wrappers put into it."""
    return _WRAPPERS.sub("", f".{path}").removeprefix(".")


def _instead(name: str, modules: Mapping[str, list[nn.Module]]) -> str:
    """What the model has in the place of a layer: a wrapper, or fused experts in pieces."""
    parts = name.split(".")
    for end in range(len(parts), len(parts) - 3, -1):  # an expert's name is longer by two
        ending = "." + ".".join(parts[:end])
        for path, (module, *_) in modules.items():
            if f".{path}".endswith(ending):
                pieces = isinstance(getattr(module, "is_transposed", None), bool)
                return f": {path} is a {type(module).__name__}" + (f"; {_WHOLE}" if pieces else "")
    return ""
