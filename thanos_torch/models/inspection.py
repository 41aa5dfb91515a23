"""Looking at a checkpoint folder, pruned here or elsewhere, tensor by tensor."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thanos_torch.models.masks import MASKS, PackedMask, read_masks, read_places
from thanos_torch.models.places import Place
from thanos_torch.models.shards import RECORD
from thanos_torch.models.tensors import Tensors
from thanos_torch.models.zeros import Zeros, look


@dataclass(frozen=True)
class SeenLayer:
    """A matrix of a checkpoint.

    seen      its zeros
    asked     the pattern that `thanos.json` says it was pruned to, None if it says nothing
    lost      removed weights, by the masks, that are zero no longer
    problems  what does not hold, for people
    """

    name: str
    seen: Zeros
    asked: str | None
    lost: int
    problems: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "sparsity": self.seen.sparsity}


def read_record(folder: Path) -> dict[str, Any] | None:
    """What `thanos.json` in `folder` says; None if there is none, ValueError if it is spoiled."""
    file = folder / RECORD
    if not file.is_file():
        return None
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        for layer in record["layers"]:
            _ = layer["name"], layer["shape"], layer["removed"], layer["options"]
        places_of(record)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} is no record of a pruned model: {error!r}") from error
    found: dict[str, Any] = record
    return found


def places_of(record: Mapping[str, Any]) -> dict[str, Place]:
    """Where the checkpoint has the layers of a record, those of which it says it."""
    return {
        layer["name"]: Place.from_dict(layer["stored"])
        for layer in record["layers"]
        if layer["stored"]
    }


def inspect_folder(folder: Path, record: dict[str, Any] | None) -> Iterator[SeenLayer]:
    """Every layer and every other matrix of a folder with safetensors, in the order of their names.

    record  of `read_record`; what it says of each layer is checked, and the masks are

    Raises ValueError if the folder cannot be read.
    """
    tensors = Tensors(folder)
    masks, places = _masks_of(folder)
    layers = {layer["name"]: layer for layer in record["layers"]} if record else {}
    if record:
        places |= places_of(record)
    for name, place in places.items():
        missing = [tensor for tensor in place.tensors if tensor not in tensors.files]
        if missing:
            raise ValueError(f"{folder} lacks the weight of {name}, which was pruned: {missing[0]}")
    taken = {tensor for place in places.values() for tensor in place.tensors}
    places |= {
        name.removesuffix(".weight"): Place((name,)) for name in tensors.files if name not in taken
    }
    for name in sorted(places, key=_natural):
        if name in layers or name in masks or _is_matrix(tensors[places[name].tensors[0]]):
            weight = places[name].read(tensors.__getitem__)
            yield _seen(name, weight, layers.get(name), masks.get(name))


def _masks_of(folder: Path) -> tuple[dict[str, PackedMask], dict[str, Place]]:
    file = folder / MASKS
    return (read_masks(file), read_places(file)) if file.is_file() else ({}, {})


def _is_matrix(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.dim() == 2


def _seen(
    name: str, weight: Tensor, layer: dict[str, Any] | None, mask: PackedMask | None
) -> SeenLayer:
    seen, problems, lost = look(weight), [], 0
    asked = layer["options"].get("pattern") if layer else None
    if mask is not None and mask.shape != seen.shape:
        problems.append(f"its mask is {mask.shape}, its weight {seen.shape}")
    elif mask is not None:
        removed = torch.from_numpy(mask.unpacked())
        lost = int((weight[removed] != 0).sum())
        if lost:
            problems.append(f"{lost} of {int(removed.sum())} removed weights are zero no longer")
        if layer and int(removed.sum()) != layer["removed"]:
            problems.append(
                f"its mask removes {int(removed.sum())} weights, {RECORD} says {layer['removed']}"
            )
    elif asked and layer and layer["removed"]:
        problems.append(f"{MASKS} has no mask of it")
    if layer and seen.zeros < layer["removed"]:
        problems.append(f"{seen.zeros} zeros, {RECORD} says that {layer['removed']} were removed")
    if asked:
        problems += _pattern_problems(weight, asked)
    return SeenLayer(name, seen, asked, lost, tuple(problems))


def _pattern_problems(weight: Tensor, asked: str) -> list[str]:
    """Where a weight, (c, b), is not of the n:m that was asked for."""
    from reference.patterns import SemiStructured, parse_pattern

    pattern = parse_pattern(asked)
    if not isinstance(pattern, SemiStructured) or not pattern.n:
        return []
    zero = weight == 0
    full = zero.view(len(zero), -1, pattern.m).sum(dim=2) >= pattern.n  # (c, groups)
    broken = int((~full.all(dim=1)).sum()) - pattern.outliers(len(zero))
    if broken <= 0:
        return []
    return [f"{broken} rows break {pattern.n}:{pattern.m}"]


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts layer 2 before layer 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]
