"""Pack a pruned checkpoint into fewer bytes, and unpack it with every bit back."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reference.patterns import Pattern, parse_pattern
from thanos_torch.checkpoint.inspect import changed_files
from thanos_torch.checkpoint.masks import PackedMask, Place, read_masks
from thanos_torch.checkpoint.packed_format import (
    DENSE,
    MOST_GROWTH,
    ExactFile,
    PackedFolder,
    PackedLayer,
    PackedSizes,
    Piece,
    packed_name,
    plus,
    write_packed,
)
from thanos_torch.checkpoint.record import places_of, read_record
from thanos_torch.checkpoint.shards import (
    MASKS,
    PACKED,
    RECORD,
    ShardWriter,
    files_below,
    inside,
    read_in_turn,
    weight_files,
)
from thanos_torch.forms import FORMS, Form, bits_of, form_of, pack, stored_bytes
from thanos_torch.runtime.arguments import checked
from thanos_torch.runtime.files import new_folder
from thanos_torch.runtime.strangers import printable, refuse_path

AUTO = "auto"


@checked()
def pack_checkpoint(folder: str | Path, out: str | Path, form: str = AUTO) -> PackedSizes:
    """Write a pruned checkpoint in packed form; few tensors are in memory at a time.

    form  one of `thanos_torch.forms.FORMS` for every layer, or AUTO: the form for the layer's
          pattern, or none if that would not be smaller

    Every packed tensor is unpacked and compared before `out` is there: all of it is written or
    nothing. Raises ValueError for a checkpoint that `thanos prune` did not write, for removed
    weights that are not zero, and for a form that does not suit a layer.
    """
    folder, out = Path(folder), Path(out)
    if form not in (AUTO, *FORMS):
        raise ValueError(f"form must be one of {', '.join((AUTO, *FORMS))}, got {form!r}")
    record = _record(folder)
    parts = _parts_of(folder, record)
    sizes = _sizes_of(record, parts)
    exact: dict[str, ExactFile] = {}
    pieces: dict[str, list[Piece]] = {}
    with new_folder(out, {"the pruned checkpoint": folder}) as partial:
        for file in weight_files(folder):
            exact[file.name] = ExactFile.of(file)
            target = partial / packed_name(file.name)
            shard = _Shard(form, sizes, target)
            for name, tensor in read_in_turn(file, exact[file.name].entries()):
                found = shard.add(name, tensor, parts.get(name, []))
                if found:
                    pieces[name] = found
            shard.finish()
            headers = exact[file.name].header_bytes, ExactFile.of(target).header_bytes
            sizes.headers = plus(sizes.headers, headers)
        # Packed weights tell which weights were removed: no need to store that twice.
        masks_follow = all(DENSE not in layer.forms for layer in sizes.layers.values())
        masks = ExactFile.of(folder / MASKS) if masks_follow else None
        others = [name for name in files_below(folder) if name not in (*exact, MASKS)]
        beside = _copy(others, folder, partial)
        held = (folder / MASKS).stat().st_size
        sizes.masks = held, 0 if masks else held
        if not masks:
            shutil.copyfile(folder / MASKS, partial / MASKS)
        _refuse_changed(folder, record)
        write_packed(partial, exact, masks, pieces)
        sizes.beside = beside, beside + (partial / PACKED).stat().st_size
    return sizes


@checked()
def unpack_checkpoint(packed: str | Path, out: str | Path) -> None:
    """Write every file of the checkpoint as it was before packing, all of them or nothing.

    One tensor is in memory at a time. Raises ValueError, naming the file, if any file of the packed
    folder was changed, added or removed, or if a file of weights or masks comes out different.
    """
    source = PackedFolder(packed)
    with new_folder(Path(out), {"the packed folder": source.path}) as partial:
        for name, file in source.files.items():
            file.write(partial / name, source.read)
        if source.masks:
            source.masks.write(
                partial / MASKS, lambda layer: PackedMask.of(source.mask(layer)).bits
            )
        _copy(source.others, source.path, partial)


@dataclass(frozen=True)
class Part:
    """A layer, or those of its rows that one tensor of the checkpoint holds.

    place   where the tensor has these rows
    mask    of the whole layer, which has `count` parts; this is part `number`
    """

    layer: str
    pattern: Pattern
    place: Place
    mask: PackedMask
    number: int
    count: int

    def removed(self) -> Tensor:
        """The mask of these rows, (rows, b) bool."""
        return self.mask.unpacked().chunk(self.count)[self.number]


def _record(folder: Path) -> dict[str, Any]:
    if (folder / PACKED).is_file():
        raise ValueError(f"{folder} is packed already")
    record = read_record(folder)
    if record is None:
        raise ValueError(f"{folder} has no {RECORD}: only what `thanos prune` wrote can be packed")
    return record


def _refuse_changed(folder: Path, record: Mapping[str, Any]) -> None:
    """Raise ValueError for a file that is not as the run wrote it.

    Only after all were read, because what else is wrong with a file says more.
    """
    for name, why in changed_files(folder, record).items():
        raise ValueError(
            f"{folder / name} {why}, by {RECORD}: only what `thanos prune` wrote can be packed, "
            "unchanged; `thanos inspect` names all that changed"
        )


def _parts_of(folder: Path, record: dict[str, Any]) -> dict[str, list[Part]]:
    """The parts of pruned layers that each tensor holds.

    Raises ValueError if the record does not say how a layer was pruned or where it is.
    """
    masks, places = read_masks(folder), places_of(record)
    asked = {each["name"]: each["options"].get("pattern") for each in record["layers"]}
    removed_by_record = {each["name"]: each["removed"] for each in record["layers"]}
    parts: dict[str, list[Part]] = {}
    for name, mask in masks.items():
        if name not in places or not asked.get(name):
            raise ValueError(
                f"{folder / RECORD} does not say how {name} was pruned, or where it is"
            )
        place, removed = places[name], int(mask.unpacked().sum())
        if mask.shape[0] % len(place.tensors) or removed != removed_by_record[name]:
            raise ValueError(f"{folder / RECORD} and {MASKS} disagree about {printable(name)}")
        for number, tensor in enumerate(place.tensors):
            own = replace(place, tensors=(tensor,))
            part = Part(name, parse_pattern(asked[name]), own, mask, number, len(place.tensors))
            parts.setdefault(tensor, []).append(part)
    return parts


def _sizes_of(record: dict[str, Any], parts: dict[str, list[Part]]) -> PackedSizes:
    """The packed layers in the order of the record, their bytes not yet counted."""
    by_layer = {part.layer: part for each in parts.values() for part in each}
    sizes = PackedSizes({})
    for layer in record["layers"]:
        name = layer["name"]
        if name in by_layer:
            shape = by_layer[name].mask.shape
            sizes.layers[name] = PackedLayer(name, shape, layer["options"]["pattern"])
    return sizes


def _copy(names: Sequence[str], source: Path, target: Path) -> int:
    """Copy files of a folder; returns their bytes. ValueError for names that no packed one has."""
    for name in names:
        refuse_path(str(source), name)
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(inside(source, name), target / name)
    return sum((target / name).stat().st_size for name in names)


class _Shard:
    """The packed counterpart of one file of weights, written to `target` by `finish`."""

    def __init__(self, form: str, sizes: PackedSizes, target: Path) -> None:
        self._form, self._sizes, self._file = form, sizes, ShardWriter(target)
        self.finish = self._file.finish

    def add(self, name: str, whole: Tensor, parts: list[Part]) -> list[Piece]:
        """Pack a tensor; returns its pieces, none if it is stored as it is."""
        pieces: list[Piece] = []
        tensors: dict[str, Tensor] = {}
        rest = whole.nbytes
        for part in parts:
            matrix = part.place.read(lambda _: whole)
            try:
                form = self._packed(matrix, part)
            except ValueError as error:
                raise ValueError(f"{part.layer}: {error}") from error
            rows, columns = matrix.shape
            kind, pattern = (self._name(part), part.pattern) if form else (DENSE, None)
            piece = Piece(part.layer, part.number, kind, pattern, (rows, columns), part.place)
            tensors |= piece.tensors(form, matrix)
            pieces.append(piece)
            after = stored_bytes(form) if form else matrix.nbytes
            layer = self._sizes.layers[part.layer]
            layer.forms.add(piece.form)
            layer.bytes = plus(layer.bytes, (matrix.nbytes, after))
            rest -= matrix.nbytes
        self._sizes.others = plus(self._sizes.others, (rest, rest))
        if all(piece.form == DENSE for piece in pieces):
            self._file.add({name: whole})
            return []
        for piece in _left(name, whole, pieces):
            tensors |= piece.tensors(None, piece.place.read(lambda _: whole))
            pieces.append(piece)
        self._file.add(tensors)
        return pieces

    def _name(self, part: Part) -> str:
        return form_of(part.pattern) if self._form == AUTO else self._form

    def _packed(self, matrix: Tensor, part: Part) -> Form | None:
        """None if the matrix stays dense. Raises ValueError if the form does not suit it."""
        removed = part.removed()
        form = pack(self._name(part), matrix, removed, part.pattern) if removed.any() else None
        if form is None or (self._form == AUTO and stored_bytes(form) >= matrix.nbytes):
            return None
        if matrix.nbytes > MOST_GROWTH * stored_bytes(form):  # unpacking would refuse it
            return None
        same = torch.equal(bits_of(form.weight()), bits_of(matrix))
        if not same or not torch.equal(form.mask(), removed):
            raise ValueError("it is not the same after packing and unpacking")
        return form


def _left(name: str, whole: Tensor, pieces: list[Piece]) -> Iterator[Piece]:
    """Dense pieces for the experts of a tensor that are in none of `pieces`."""
    if whole.dim() == 3:
        for expert in sorted(set(range(len(whole))) - {piece.place.expert for piece in pieces}):
            rows, columns = whole.shape[1:]
            yield Piece("", 0, DENSE, None, (rows, columns), Place((name,), False, expert))
