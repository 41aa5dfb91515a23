"""The format of a packed checkpoint: read its folder tensor by tensor, and count its bytes."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from reference.patterns import Pattern, parse_pattern
from thanos_torch.checkpoint.masks import Place
from thanos_torch.checkpoint.shards import (
    PACKED,
    inside,
    read_header,
    read_tensors,
    tensor_names,
    with_length,
)
from thanos_torch.forms import Form, form_from
from thanos_torch.runtime.files import sha256_of, whole_file

Bytes = tuple[int, int]  # before packing, after packing
DENSE = "dense"  # the form of an expert that is stored as it is, beside others that are packed


@dataclass
class PackedLayer:
    """A pruned layer's weight and its bytes.

    forms  the forms of its parts; `dense` for a part that no form makes smaller
    """

    name: str
    shape: tuple[int, int]
    pattern: str
    forms: set[str] = field(default_factory=set)
    bytes: Bytes = (0, 0)


@dataclass
class PackedSizes:
    """All bytes of a checkpoint folder, before and after packing.

    others   tensors that were not pruned
    headers  headers of weight files, which say where each tensor is
    masks    the file of masks; 0 after packing if the packed weights determine the masks
    beside   all other files; after packing with `packed.json`, which keeps the original headers
    """

    layers: dict[str, PackedLayer]
    others: Bytes = (0, 0)
    headers: Bytes = (0, 0)
    masks: Bytes = (0, 0)
    beside: Bytes = (0, 0)

    @property
    def pruned(self) -> Bytes:
        """All pruned layers' weights."""
        return plus(*(layer.bytes for layer in self.layers.values()))

    @property
    def total(self) -> Bytes:
        """All files of the folder."""
        return plus(self.pruned, self.others, self.headers, self.masks, self.beside)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        names = ("pruned", "others", "headers", "masks", "beside", "total")
        return {
            **{name: list(getattr(self, name)) for name in names},
            "layers": [
                {**asdict(layer), "forms": sorted(layer.forms)} for layer in self.layers.values()
            ],
        }


def plus(*sizes: Bytes) -> Bytes:
    """Add up bytes before packing, and bytes after packing."""
    return sum(dense for dense, _ in sizes), sum(packed for _, packed in sizes)


@dataclass(frozen=True)
class ExactFile:
    """What is needed beside the tensors to write a safetensors file again, byte by byte.

    header  the text of the file's header
    sha256  the SHA-256 of the whole file
    """

    header: str
    sha256: str

    @classmethod
    def of(cls, file: Path) -> Self:
        """Describe a file that was read before, and so is known to be sound."""
        return cls(read_header(file).decode(), sha256_of(file))

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """Read what `as_dict` wrote. Raises KeyError or TypeError for anything else."""
        return cls(str(stored["header"]), str(stored["sha256"]))

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    @property
    def header_bytes(self) -> int:
        """How many bytes come before the tensors."""
        return len(with_length(self.header.encode()))

    def entries(self) -> dict[str, dict[str, Any]]:
        """The header's entry for every tensor, in the order of the data."""
        content = json.loads(self.header)
        content.pop("__metadata__", None)
        return dict(sorted(content.items(), key=lambda item: item[1]["data_offsets"]))

    def write(self, file: Path, tensor: Callable[[str], Tensor]) -> None:
        """Write the file again; `tensor` reads by name. Raises ValueError if the hash differs."""
        with whole_file(file) as unfinished:
            with unfinished.open("wb") as content:
                content.write(with_length(self.header.encode()))
                for name in self.entries():
                    flat = tensor(name).contiguous().reshape(-1)
                    content.write(flat.view(torch.uint8).numpy().data)
            if sha256_of(unfinished) != self.sha256:
                raise ValueError(f"{file.name} does not come out as it was: what holds it changed")


@dataclass(frozen=True)
class Piece:
    """A part of a checkpoint's tensor that is packed by itself: all of the tensor, or one expert.

    layer    the layer whose weight it holds, or some rows of it: part `number`
    form     one of `thanos_torch.forms.FORMS`, or DENSE
    pattern  the pattern that the layer was pruned to; None if DENSE
    shape    (c, b), also if the tensor is stored inputs first
    place    where the checkpoint's tensor has it
    """

    layer: str
    number: int
    form: str
    pattern: Pattern | None
    shape: tuple[int, int]
    place: Place

    def tensors(self, form: Form | None, matrix: Tensor) -> dict[str, Tensor]:
        """The tensors to store: those of the form, or the matrix itself without one."""
        parts = form.tensors if form else {DENSE: matrix}
        return {self.key(part): tensor for part, tensor in parts.items()}

    def key(self, part: str) -> str:
        """The name in the packed file of one of the form's tensors."""
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
        """Read what `as_dict` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        pattern = None if stored["pattern"] is None else parse_pattern(stored["pattern"])
        rows, columns = map(int, stored["shape"])
        place = Place.from_dict(stored["place"])
        layer, number = str(stored["layer"]), int(stored["number"])
        return cls(layer, number, str(stored["form"]), pattern, (rows, columns), place)


class PackedFolder:
    """Reads a packed checkpoint.

    files   each weight file of the original checkpoint, by its name
    masks   its file of masks; None if that file was copied
    pieces  the pieces of every packed tensor
    """

    def __init__(self, path: str | Path) -> None:
        """Raises ValueError for a folder that is not packed, or is damaged."""
        self.path = path = Path(path)
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
        """Names of the original checkpoint's tensors."""
        yield from self._entries

    def describe(self, name: str) -> tuple[str, list[int]]:
        """The dtype of an original tensor, as safetensors files spell it, and its shape."""
        entry = self._entries[name][1]
        return entry["dtype"], entry["shape"]

    def read(self, name: str) -> Tensor:
        """An original tensor, bit for bit. Raises ValueError if the packed file is damaged."""
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
        """A piece in its form; for a DENSE piece the matrix, (c, b)."""
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
        """Names of the files that `thanos pack` wrote in the place of others."""
        return {PACKED, *map(packed_name, self.files)}

    def _packed_file(self, tensor: str) -> Path:
        return inside(self.path, packed_name(self._entries[tensor][0]))

    def _stored(self, tensor: str, keys: list[str]) -> dict[str, Tensor]:
        file = self._packed_file(tensor)
        return read_tensors(dict.fromkeys(keys, file))


def packed_name(file: str) -> str:
    """The name of a packed file, which Transformers does not take for a checkpoint."""
    return f"{file.removesuffix('.safetensors')}.packed.safetensors"
