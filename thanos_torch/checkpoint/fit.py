"""Whether the tensors of a checkpoint are those of its model, and in which dtypes it has them."""

import re
from collections.abc import Mapping
from functools import reduce
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from thanos_torch.network.layers import PRUNABLE_DTYPES, decoder_blocks, found_layers, note_dtype

# As of `Conversion.place`: the model's name for every tensor, and whether it is rearranged.
Places = Mapping[str, tuple[str, bool]]

# Buffers that older versions of Transformers saved, and that models make for themselves.
_OUTDATED = re.compile(
    r"(^|\.)(rotary_emb\.(inv_freq|cos_cached|sin_cached)|masked_bias|position_ids"
    r"|(self_)?(attn|attention)\.bias)$"
)

# What PEFT, torch.compile and DataParallel put in front of the names of a model that they wrap.
_WRAPPERS = re.compile(r"^((base_model\.model|_orig_mod|module)\.)+")


def refuse_unfit(model: Any, places: Places, described: Mapping[str, Tensor]) -> None:
    """Raise ValueError, naming the tensor, for weights that are quantised or not the model's.

    described  the tensors of the checkpoint, on the meta device

    What config.json says of quantisation does not matter. Integers may be buffers, but no weights.
    Whole parts that the model's class lacks, such as a vision tower, may be there.
    """
    known, buffers = model.state_dict(), dict(model.named_buffers())
    for name, (place, _) in places.items():
        dtype = described[name].dtype
        weight = place in known and place not in buffers and known[place].is_floating_point()
        if dtype not in PRUNABLE_DTYPES and (weight or dtype.is_floating_point):
            raise ValueError(
                f"{name} holds {dtype}, which cannot be pruned: dequantise the model first"
            )
    modules = dict(model.named_modules())
    for name in _unknown(model, places, {*known, *buffers}):
        place, base = places[name][0], model.base_model_prefix
        # Many checkpoints lack the prefix that the causal model gives to its parts.
        own = _WRAPPERS.sub("", place)
        for start in (own, f"{base}.{own}" if base in modules else own):
            if reason := _why_unfit(modules, start.split(".")):
                raise ValueError(f"{name} ({described[name].dtype}) {reason}")


def _unknown(model: Any, places: Places, known: set[str]) -> list[str]:
    """The tensors that the model does not know, but for those that its class ignores by design."""
    strange = {place for place, _ in places.values() if place not in known}
    account = SimpleNamespace(missing_keys=set(), unexpected_keys=strange)
    model._adjust_missing_and_unexpected_keys(account)
    left = {place for place in account.unexpected_keys if not _OUTDATED.search(place)}
    return [name for name, (place, _) in places.items() if place in left]


def _why_unfit(modules: Mapping[str, nn.Module], parts: list[str]) -> str:
    """Why a model cannot have an unknown tensor, by the parts of its name; empty if it can."""
    outer = [".".join(parts[:end]) for end in range(len(parts))]
    depth = max(end for end, name in enumerate(outer) if name in modules)
    owner = modules[outer[depth]]
    if isinstance(owner, nn.ModuleList) and parts[depth].isdigit():
        return f"lies beyond the {len(owner)} blocks that config.json gives to {outer[depth]}"
    in_block = any(isinstance(modules[name], nn.ModuleList) for name in outer[:depth])
    if in_block or (depth and any(True for _ in owner.parameters(recurse=False))):
        return (
            f"is no tensor of {type(modules['']).__name__}: "
            "dequantise a quantised model first, merge an adapter, or correct config.json"
        )
    return ""


def note_dtypes(model: Any, places: Places, described: Mapping[str, Tensor]) -> torch.dtype | None:
    """Note in the model in which dtype the checkpoint has each parameter.

    Returns the narrowest dtype that holds the weights of all layers exactly; None without layers.
    Raises ValueError, naming it, for a layer's parameter that is stored in several dtypes.
    """
    stored: dict[str, set[torch.dtype]] = {}
    for name, (place, _) in places.items():
        stored.setdefault(place, set()).add(described[name].dtype)
    layers = _layer_parameters(model)
    for place, block in layers.items():
        # One tensor may become several parameters, of which only the first is in `places`.
        rearranged = (n for n, (p, moved) in places.items() if moved and p.startswith(block))
        kinds = stored.setdefault(place, set()) or {described[n].dtype for n in rearranged}
        if len(kinds) > 1:
            words = " and ".join(sorted(map(str, kinds)))
            raise ValueError(f"{place} is stored as {words}: convert its tensors to one of them")
        stored[place] = kinds
    widest = {place: reduce(torch.promote_types, kinds) for place, kinds in stored.items() if kinds}
    modules = dict(model.named_modules())
    for place, dtype in widest.items():
        owner, _, own = place.rpartition(".")
        if owner in modules:
            note_dtype(modules[owner], own, dtype)
    of_layers = [widest[place] for place in layers if place in widest]
    return reduce(torch.promote_types, of_layers) if of_layers else None


def _layer_parameters(model: nn.Module) -> dict[str, str]:
    """The parameters of the decoder blocks' layers, each with the start of its block's names."""
    try:
        blocks = decoder_blocks(model)
    except ValueError:  # no blocks: nothing is pruned in it
        return {}
    return {
        layer.parameter: f"{name}."
        for name, group in zip(blocks, found_layers(blocks), strict=True)
        for layer in group.values()
    }
