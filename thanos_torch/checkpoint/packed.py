"""The format of a packed checkpoint: its folder, its tensors one at a time, its size."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from reference.patterns import Pattern, parse_pattern
from thanos_torch.checkpoint.masks import Place
from thanos_torch.checkpoint.shards import PACKED, inside, read_tensors, tensor_names
from thanos_torch.forms import Form, form_from
from thanos_torch.runtime.files import sha256_of, whole_file

Bytes = tuple[int, int]  # dense, packed


@dataclass
class PackedLayer:
    """A pruned layer's weight.

    forms  that it, or its parts, were packed in; `dense` where no form is smaller
    """

    name: str
    shape: tuple[int, int]
    pattern: str
    forms: set[str] = field(default_factory=set)
    bytes: Bytes = (0, 0)


@dataclass
class PackedSizes:
    """All bytes of a checkpoint folder.

    others   tensors that were not pruned
    headers  of weight files: where each tensor is
    masks    the file with the masks; none after, if the packed weights say as much
    beside   all other files, after packing `packed.json` too, which keeps the headers of before
    """

    layers: dict[str, PackedLayer]
    others: Bytes = (0, 0)
    headers: Bytes = (0, 0)
    masks: Bytes = (0, 0)
    beside: Bytes = (0, 0)

    @property
    def pruned(self) -> Bytes:
        """Of all pruned layers' weights."""
        return plus(*(layer.bytes for layer in self.layers.values()))

    @property
    def total(self) -> Bytes:
        """What the files of the folder hold."""
        return plus(self.pruned, self.others, self.headers, self.masks, self.beside)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        names = ("pruned", "others", "headers", "masks", "beside", "total")
        return {
            **{name: list(getattr(self, name)) for name in names},
            "layers": [
                {
                    "name": layer.name,
                    "shape": list(layer.shape),
                    "pattern": layer.pattern,
                    "forms": sorted(layer.forms),
                    "bytes": list(layer.bytes),
                }
                for layer in self.layers.values()
            ],
        }


def plus(*sizes: Bytes) -> Bytes:
    """The sum of some."""
    return sum(dense for dense, _ in sizes), sum(packed for _, packed in sizes)


@dataclass(frozen=True)
class ExactFile:
    """All of a safetensors file but the numbers in it.

    header  its text, as it is in the file, after the 8 bytes of its length
    sha256  of the whole file
    """

    header: str
    sha256: str

    @classmethod
    def of(cls, file: Path) -> Self:
        """Read the header of a file that has been read before, and so is known to be sound."""
        with file.open("rb") as content:
            length = int.from_bytes(content.read(8), "little")
            header = content.read(length).decode()
        return cls(header, sha256_of(file))

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """What `as_dict` made. Raises KeyError or TypeError for anything else."""
        return cls(str(stored["header"]), str(stored["sha256"]))

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    @property
    def header_bytes(self) -> int:
        """The bytes in front of the tensors."""
        return 8 + len(self.header.encode())

    def entries(self) -> dict[str, dict[str, Any]]:
        """What the header says of every tensor, in the order of their bytes."""
        content = json.loads(self.header)
        content.pop("__metadata__", None)
        return dict(sorted(content.items(), key=lambda item: item[1]["data_offsets"]))

    def write(self, file: Path, tensor: Callable[[str], Tensor]) -> None:
        """Write the file anew; `tensor` gives one by name. ValueError if it is another file."""
        header = self.header.encode()
        with whole_file(file) as unfinished:
            with unfinished.open("wb") as content:
                content.write(len(header).to_bytes(8, "little") + header)
                for name in self.entries():
                    flat = tensor(name).contiguous().reshape(-1)
                    content.write(flat.view(torch.uint8).numpy().data)
            if sha256_of(unfinished) != self.sha256:
                raise ValueError(f"{file.name} does not come out as it was: what holds it changed")


DENSE = "dense"  # the form of an expert that is stored as it is, beside others that are packed


@dataclass(frozen=True)
class Piece:
    """A part of a tensor of the checkpoint: all of it, or one expert.

    layer    whose weight it is, or some of its rows: part `number` of it
    form     of `thanos_torch.forms.FORMS`, or DENSE
    pattern  that the layer was pruned to; None if DENSE
    shape    (c, b), whichever way round it is stored
    place    where it is in the tensor
    """

    layer: str
    number: int
    form: str
    pattern: Pattern | None
    shape: tuple[int, int]
    place: Place

    @staticmethod
    def tensors(form: Form | None, matrix: Tensor) -> Mapping[str, Tensor]:
        """What is stored of it, by part."""
        return form.tensors if form else {DENSE: matrix}

    def key(self, part: str) -> str:
        """The name of a tensor of the form in the packed file."""
        expert = "" if self.place.expert is None else f":{self.place.expert}"
        return f"{self.place.tensors[0]}{expert}:{part}"

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; the argument of `from_dict`."""
        return {
            "layer": self.layer,
            "number": self.number,
            "form": self.form,
            "pattern": None if self.pattern is None else str(self.pattern),
            "shape": list(self.shape),
            "place": self.place.as_dict(),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """What `as_dict` made. Raises KeyError, TypeError or ValueError for anything else."""
        pattern = None if stored["pattern"] is None else parse_pattern(stored["pattern"])
        rows, columns = map(int, stored["shape"])
        place = Place.from_dict(stored["place"])
        layer, number = str(stored["layer"]), int(stored["number"])
        return cls(layer, number, str(stored["form"]), pattern, (rows, columns), place)


class PackedFolder:
    """Reads a packed checkpoint.

    files   of the original: all that there is to know of each but its numbers, by its name
    masks   the same of its masks; None if they are there as they were
    pieces  of every tensor that is packed
    """

    def __init__(self, path: Path) -> None:
        """Raises ValueError for a folder that is not packed, or damaged."""
        self.path = path
        if not (path / PACKED).is_file():
            raise ValueError(f"{path} is no packed checkpoint: it has no {PACKED}")
        try:
            content = json.loads((path / PACKED).read_text(encoding="utf-8"))
            self.files = {
                str(name): ExactFile.from_dict(file) for name, file in content["files"].items()
            }
            self.masks = ExactFile.from_dict(content["masks"]) if content["masks"] else None
            self.pieces = {
                str(name): [Piece.from_dict(piece) for piece in pieces]
                for name, pieces in content["tensors"].items()
            }
            self._entries = {
                tensor: (name, entry)
                for name, file in self.files.items()
                for tensor, entry in file.entries().items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path / PACKED} is damaged: {error!r}") from error
        strange = [name for name in self.files if Path(name).name != name]
        if strange:
            raise ValueError(f"{path / PACKED} names {strange[0]!r}, which is no file in a folder")

    def names(self) -> Iterator[str]:
        """Of the tensors of the checkpoint that was packed."""
        yield from self._entries

    def describe(self, name: str) -> tuple[str, list[int]]:
        """The dtype of one of these tensors, as safetensors call it, and its shape."""
        entry = self._entries[name][1]
        return entry["dtype"], entry["shape"]

    def read(self, name: str) -> Tensor:
        """One of these tensors as it was. Raises ValueError if what holds it is damaged."""
        if name not in self.pieces:
            return self._stored(name, [name])[name]
        pieces = sorted(self.pieces[name], key=lambda piece: piece.place.expert or 0)
        matrices = []
        for piece in pieces:
            form = self.form(piece)
            matrix = form if isinstance(form, Tensor) else form.weight()
            matrices.append(matrix.T if piece.place.transposed else matrix)
        whole = matrices[0] if pieces[0].place.expert is None else torch.stack(matrices)
        return whole.contiguous()

    def form(self, piece: Piece) -> Form | Tensor:
        """A piece as it is stored; of a DENSE one the matrix, (c, b)."""
        file = self._packed_file(piece.place.tensors[0])
        start = piece.key("")
        keys = [name for name in tensor_names(file) if name.startswith(start)]
        tensors = self._stored(piece.place.tensors[0], keys)
        parts = {key.removeprefix(start): tensor for key, tensor in tensors.items()}
        try:
            if piece.pattern is None:
                return parts[DENSE].view(piece.shape)
            return form_from(piece.form, piece.shape, parts, piece.pattern)
        except (ValueError, KeyError, IndexError, RuntimeError) as error:
            raise ValueError(f"{file}: {piece.layer} is damaged: {error}") from error

    def of_layer(self, layer: str) -> list[Piece]:
        """The pieces of a layer, in the order of its rows."""
        found = [p for pieces in self.pieces.values() for p in pieces if p.layer == layer]
        return sorted(found, key=lambda piece: piece.number)

    def mask(self, layer: str) -> Tensor:
        """The mask of a layer all of whose pieces are packed, (c, b) bool."""
        masks = []
        for piece in self.of_layer(layer):
            form = self.form(piece)
            if isinstance(form, Tensor):
                raise ValueError(f"{self.path / PACKED} packs no mask of {layer}")
            masks.append(form.mask())
        return torch.cat(masks)

    def packed_files(self) -> set[str]:
        """Names of the files that hold what is packed."""
        return {PACKED, *map(packed_name, self.files)}

    def _packed_file(self, tensor: str) -> Path:
        return inside(self.path, packed_name(self._entries[tensor][0]))

    def _stored(self, tensor: str, keys: list[str]) -> dict[str, Tensor]:
        file = self._packed_file(tensor)
        return read_tensors(dict.fromkeys(keys, file))


def packed_name(file: str) -> str:
    """The name of a packed file; not one that Transformers would take for a checkpoint."""
    return f"{file.removesuffix('.safetensors')}.packed.safetensors"
