"""Inspect a checkpoint: the patterns of its zeros, and whether its masks and record still hold."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reference.patterns import SemiStructured, parse_pattern
from thanos_torch.checkpoint.masks import PackedMask, Place, read_masks, read_places
from thanos_torch.checkpoint.record import described_files, places_of
from thanos_torch.checkpoint.shards import MASKS, RECORD, Tensors, inside
from thanos_torch.network.layers import PRUNABLE_DTYPES
from thanos_torch.runtime.arguments import checked
from thanos_torch.runtime.files import why_changed
from thanos_torch.runtime.strangers import printable

LOADED = ("*.safetensors", "adapter_config.json")  # what programs load if it is there
GROUPS = (2, 4, 8, 16)  # the m of n:m that are looked for


@dataclass(frozen=True)
class Zeros:
    """The zeros of a weight, (c, b).

    zeros       how many entries are zero
    columns     how many columns are zero in all rows but the dense ones
    dense_rows  how many rows hold no zero: outlier rows, unless all rows are dense
    n_of_m      the n:m patterns that hold: every row but the dense ones has at least n zeros in
                every aligned group of m columns. Patterns that a smaller m implies are left out
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
        """The patterns for people, such as `2:4, 12 zero columns`; empty if there are none."""
        found = [f"{n}:{m}" for n, m in self.n_of_m]
        if self.columns:
            found.append(f"{self.columns:,} zero columns")
        if found and self.dense_rows:
            found.append(f"{self.dense_rows:,} dense rows")
        return ", ".join(found)


def look(weight: Tensor) -> Zeros:
    """Count the zeros of a weight, (c, b), and find their patterns."""
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


def _groups(zero: Tensor) -> tuple[tuple[int, int], ...]:
    """The n:m patterns of rows, (rows, b) bool, without those that a smaller m implies."""
    found: list[tuple[int, int]] = []
    for m in GROUPS:
        if not zero.numel() or zero.shape[1] % m:
            continue
        n = int(zero.view(len(zero), -1, m).sum(dim=2, dtype=torch.uint8).min())
        implied = max((k * (m // j) for k, j in found), default=0)
        if n > implied:
            found.append((n, m))
    return tuple(found)


@dataclass(frozen=True)
class SeenLayer:
    """A matrix of a checkpoint.

    seen      its zeros
    asked     the pattern that it was pruned to, by `thanos.json`; None if that does not say
    lost      how many weights are not zero although the mask removes them
    problems  what does not hold, one line each
    """

    name: str
    seen: Zeros
    asked: str | None
    lost: int
    problems: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "sparsity": self.seen.sparsity}


@checked()
def changed_files(folder: str | Path, record: Mapping[str, Any]) -> dict[str, str]:
    """How the files of a pruned checkpoint differ from what its record says: by name, sorted.

    Files that were added count if other programs would load them with the model or in its place.
    Raises ValueError if the record names a file outside of the folder.
    """
    folder = Path(folder)
    known = described_files(record)
    found = {name: why_changed(inside(folder, name), facts) for name, facts in known.items()}
    if known:
        loaded = {file.name for glob in LOADED for file in folder.glob(glob)}
        found |= dict.fromkeys(loaded - known.keys(), "was added")
    return {name: why for name, why in sorted(found.items()) if why}


@checked()
def inspect_folder(
    folder: str | Path,
    record: dict[str, Any] | None,
    changed: Mapping[str, str] | None = None,
) -> Iterator[SeenLayer]:
    """Inspect every layer and every other matrix of a folder with safetensors, sorted by name.

    record   as `read_record` returns it. Weights are compared with the record and with the masks
    changed  of `changed_files`, by default; layers in these files have that problem

    Raises ValueError if the folder cannot be read, and for a matrix of quantised weights.
    """
    folder = Path(folder)
    tensors = Tensors(folder)
    if changed is None:
        changed = changed_files(folder, record or {})
    has_masks = (folder / MASKS).is_file()
    masks, places = (read_masks(folder), read_places(folder)) if has_masks else ({}, {})
    layers = {layer["name"]: layer for layer in record["layers"]} if record else {}
    recorded_places = places_of(record) if record else {}
    in_masks, places = places, places | recorded_places
    for name, place in places.items():
        missing = [tensor for tensor in place.tensors if tensor not in tensors.files]
        if missing:
            lacking = printable(f"{name}, which was pruned: {missing[0]}")
            raise ValueError(f"{folder} lacks the weight of {lacking}")
    for name in sorted({*masks, *(each for each in layers if layers[each]["options"])}):
        if name not in places:
            raise ValueError(f"{folder} does not say where the weight of {printable(name)} is")
    taken = {tensor for place in places.values() for tensor in place.tensors}
    moved = {name for name, place in recorded_places.items() if in_masks.get(name, place) != place}
    places |= {
        name.removesuffix(".weight"): Place((name,)) for name in tensors.files if name not in taken
    }
    for name in sorted(places, key=_natural):
        if name in layers or name in masks or _is_matrix(places[name].tensors[0], tensors):
            weight = places[name].read(tensors.__getitem__)
            seen = _seen(name, weight, layers.get(name), masks.get(name))
            files = dict.fromkeys(tensors.files[tensor].name for tensor in places[name].tensors)
            held = tuple(f"its file {file} {changed[file]}" for file in files if file in changed)
            disagree = name in moved or (record and name in masks and name not in layers)
            problem = f"{RECORD} and {MASKS} disagree about it"
            found = (*seen.problems, problem) if disagree else seen.problems
            # What else is wrong with a layer says more.
            yield replace(seen, problems=found or held)


def _is_matrix(name: str, tensors: Tensors) -> bool:
    """Whether a tensor is a matrix of plain numbers. Raises ValueError if it is a quantised one.

    Integers in one row are positions or the like.
    """
    tensor = tensors.described(name)
    plain = tensor.dtype in PRUNABLE_DTYPES
    if not plain and (tensor.is_floating_point() or (tensor.dim() == 2 and min(tensor.shape) > 1)):
        raise ValueError(f"{name} holds {tensor.dtype}: zeros of quantised weights are not known")
    return plain and tensor.dim() == 2


def _seen(
    name: str, weight: Tensor, layer: dict[str, Any] | None, mask: PackedMask | None
) -> SeenLayer:
    seen, problems, lost = look(weight), [], 0
    asked = layer["options"].get("pattern") if layer else None
    if mask is not None and mask.shape != seen.shape:
        problems.append(f"its mask is {mask.shape}, its weight {seen.shape}")
    elif mask is not None:
        removed = mask.unpacked()
        lost = int((weight[removed] != 0).sum())
        if lost:
            problems.append(f"{lost:,} of {int(removed.sum()):,} removed weights are not zero")
        if layer and int(removed.sum()) != layer["removed"]:
            removes = f"its mask removes {int(removed.sum()):,} weights"
            problems.append(f"{removes}, {RECORD} says {layer['removed']:,}")
    elif asked and layer and layer["removed"]:
        problems.append(f"{MASKS} has no mask of it")
    if layer and layer["removed"] and not asked:
        problems.append(f"{RECORD} says that weights were removed, and not how")
    if layer and tuple(layer["shape"]) != seen.shape:
        problems.append(f"its weight is {seen.shape}, {RECORD} says {tuple(layer['shape'])}")
    if layer and seen.zeros < layer["removed"]:
        problems.append(
            f"{seen.zeros:,} zeros, {RECORD} says that {layer['removed']:,} were removed"
        )
    if layer and asked and layer["left_dense"]:
        problems.append(printable(f"was left dense: {layer['left_dense']}"))
    elif asked:
        problems += _pattern_problems(weight, asked)
    return SeenLayer(name, seen, asked, lost, tuple(problems))


def _pattern_problems(weight: Tensor, asked: str) -> list[str]:
    """One line if a weight, (c, b), breaks the n:m pattern that was asked for."""
    pattern = parse_pattern(asked)
    if not isinstance(pattern, SemiStructured) or not pattern.n:
        return []
    zero = weight == 0
    full = zero.view(len(zero), -1, pattern.m).sum(dim=2) >= pattern.n  # (c, groups)
    broken = int((~full.all(dim=1)).sum()) - pattern.outliers(len(zero))
    if broken <= 0:
        return []
    return [f"{broken:,} rows break {pattern.n}:{pattern.m}"]


def _natural(name: str) -> list[tuple[int, str]]:
    """A sort key that puts layer 2 before layer 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]
