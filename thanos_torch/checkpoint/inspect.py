"""`thanos inspect`: read a checkpoint tensor by tensor, and name the patterns of its zeros."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thanos_torch.checkpoint.masks import MASKS, PackedMask, Place, read_masks, read_places
from thanos_torch.checkpoint.shards import RECORD, Tensors

GROUPS = (2, 4, 8, 16)  # the m of n:m that are looked for


@dataclass(frozen=True)
class Zeros:
    """What can be seen of a weight, (c, b).

    zeros      how many entries are zero
    columns    how many columns hold nothing but zeros
    dense_rows how many rows hold no zero at all: outlier rows, if there are others
    n_of_m     the n:m that hold: every other row has at least n zeros in every aligned group of m
               columns, n counting the zeros. Those that follow from a smaller m are left out
    """

    shape: tuple[int, int]
    zeros: int
    columns: int
    dense_rows: int
    n_of_m: tuple[tuple[int, int], ...]

    @property
    def sparsity(self) -> float:
        """Share of the entries that are zero."""
        return self.zeros / (self.shape[0] * self.shape[1])

    def describe(self) -> str:
        """For people: `2:4`, `12 columns`, ... or nothing if there is no pattern."""
        found = [f"{n}:{m}" for n, m in self.n_of_m]
        if self.columns:
            found.append(f"{self.columns} zero columns")
        if found and self.dense_rows:
            found.append(f"{self.dense_rows} dense rows")
        return ", ".join(found)


def look(weight: Tensor) -> Zeros:
    """Look at a weight, (c, b)."""
    zero = weight == 0
    rows = zero[zero.any(dim=1)]
    columns = int(rows.all(dim=0).sum()) if len(rows) else 0
    return Zeros(
        (weight.shape[0], weight.shape[1]),
        int(zero.sum()),
        columns,
        len(weight) - len(rows),
        _groups(rows),
    )


def fewest_zeros(zero: Tensor, m: int) -> int | None:
    """Of all aligned groups of m columns of `zero`, (c, b) bool; None if m does not divide b."""
    if not zero.numel() or zero.shape[1] % m:
        return None
    return int(zero.view(len(zero), -1, m).sum(dim=2, dtype=torch.uint8).min())


def _groups(zero: Tensor) -> tuple[tuple[int, int], ...]:
    """The n:m of these rows; 4:8 says nothing where 2:4 holds."""
    found: list[tuple[int, int]] = []
    for m in GROUPS:
        n = fewest_zeros(zero, m) or 0
        implied = max((k * (m // j) for k, j in found), default=0)
        if n > implied:
            found.append((n, m))
    return tuple(found)


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
