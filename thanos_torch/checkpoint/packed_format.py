"""The format of a packed checkpoint: read its folder tensor by tensor, and count its bytes."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, TypedDict

import torch
from torch import Tensor

from reference.patterns import Pattern, parse_pattern
from thanos_torch.checkpoint.masks import Place
from thanos_torch.checkpoint.shards import (
    MASKS,
    PACKED,
    bytes_of,
    files_below,
    inside,
    read_header,
    read_tensors,
    tensor_names,
    with_length,
)
from thanos_torch.forms import Form, form_from
from thanos_torch.runtime.files import sha256_of, whole_file, write_json
from thanos_torch.runtime.strangers import (
    Count,
    Shape,
    from_json,
    printable,
    read_json,
    refuse_path,
    shown,
    typed,
)

Bytes = tuple[int, int]  # before packing, after packing
DENSE = "dense"  # the form of an expert that is stored as it is, beside others that are packed

# By how much a weight may grow when it is unpacked: a file of kilobytes must not take gigabytes.
MOST_GROWTH = 1024
NAMED = 3  # files that a message names


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


class TensorEntry(TypedDict):
    """What the header of a safetensors file says of a tensor."""

    dtype: str
    shape: list[Count]
    data_offsets: tuple[Count, Count]


def _offsets(named: tuple[str, TensorEntry]) -> tuple[int, int]:
    return named[1]["data_offsets"]


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

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    @property
    def header_bytes(self) -> int:
        """How many bytes come before the tensors."""
        return len(with_length(self.header.encode()))

    def entries(self) -> dict[str, TensorEntry]:
        """The header's entry for every tensor, in the order of the data.

        Raises ValueError for a header that no safetensors file has.
        """
        problem = "a header of a weight file is damaged"
        content = from_json(self.header, dict[str, dict[str, object]], problem)
        content.pop("__metadata__", None)
        entries = typed(content, dict[str, TensorEntry], problem)
        end = 0
        for name, entry in sorted(entries.items(), key=_offsets):
            first, last = entry["data_offsets"]
            if first != end or last - first != bytes_of(name, entry["dtype"], entry["shape"]):
                raise ValueError(f"{problem}: {printable(name)} does not lie where it must")
            end = last
        return dict(sorted(entries.items(), key=_offsets))

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
    def from_dict(cls, stored: "_StoredPiece") -> Self:
        """Read what `as_dict` wrote. Raises ValueError for values that contradict one another."""
        dense, pattern = stored["form"] == DENSE, stored["pattern"]
        if dense != (pattern is None):
            raise ValueError(f"the form {stored['form']} does not go with the pattern {pattern}")
        asked = None if pattern is None else parse_pattern(pattern)
        own = stored["layer"], stored["number"], stored["form"], asked, stored["shape"]
        return cls(*own, Place.from_dict(stored["place"]))


class _StoredPiece(TypedDict):
    layer: str
    number: Count
    form: Literal["bitmask", "nm", "compact", "dense"]
    pattern: str | None
    shape: Shape
    place: dict[str, object]


class _Content(TypedDict):
    """What `packed.json` holds.

    files    each weight file of the original checkpoint, by its name
    masks    its file of masks; None if that file was copied
    tensors  the pieces of every packed tensor
    folder   SHA-256 of every other file of the packed folder, by its path
    sha256   of all of this
    """

    files: dict[str, ExactFile]
    masks: ExactFile | None
    tensors: dict[str, list[_StoredPiece]]
    folder: dict[str, str]
    sha256: str


def write_packed(
    folder: Path,
    files: Mapping[str, ExactFile],
    masks: ExactFile | None,
    pieces: Mapping[str, list[Piece]],
) -> None:
    """Write `packed.json` into a folder whose other files are all there."""
    content: dict[str, Any] = {
        "files": {name: file.as_dict() for name, file in files.items()},
        "masks": masks.as_dict() if masks else None,
        "tensors": {name: [piece.as_dict() for piece in each] for name, each in pieces.items()},
        "folder": {name: sha256_of(folder / name) for name in files_below(folder)},
    }
    write_json(folder / PACKED, {**content, "sha256": sha256_of_json(content)})


def sha256_of_json(content: Mapping[str, Any]) -> str:
    """SHA-256 of an object's values, whatever their order, without its own `sha256`."""
    own = {name: value for name, value in content.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


class PackedFolder:
    """Reads a packed checkpoint.

    files   each weight file of the original checkpoint, by its name
    masks   its file of masks; None if that file was copied
    pieces  the pieces of every packed tensor
    others  paths of the files that were copied
    """

    def __init__(self, path: str | Path) -> None:
        """Raises ValueError for a folder that is not packed, or not as `thanos pack` wrote it.

        Every file of the folder is read once, for its SHA-256.
        """
        self.path = path = Path(path)
        if not (path / PACKED).is_file():
            raise ValueError(f"{path} is no packed checkpoint: it has no {PACKED}")
        file = inside(path, PACKED)
        content = read_json(file, _Content)
        self.files, self.masks = content["files"], content["masks"]
        for name in (*self.files, *content["folder"]):
            refuse_path(str(file), name)
        try:
            self.pieces = {
                name: [Piece.from_dict(piece) for piece in pieces]
                for name, pieces in content["tensors"].items()
            }
            self.others = [name for name in content["folder"] if name not in self.packed_files()]
            self._entries = self._placed_entries()
            self._refuse_contradictions(set(content["folder"]))
        except ValueError as error:
            raise ValueError(f"{file} is damaged: {error}") from None
        if sha256_of_json(read_json(file, dict[str, object])) != content["sha256"]:
            raise ValueError(f"{file} is not as `thanos pack` wrote it, by its SHA-256")
        _refuse_changed(path, content["folder"])

    def _placed_entries(self) -> dict[str, tuple[str, TensorEntry]]:
        """The file of every original tensor, and the tensor's entry in its header."""
        found: dict[str, tuple[str, TensorEntry]] = {}
        for name, file in self.files.items():
            for tensor, entry in file.entries().items():
                if tensor in found:
                    raise ValueError(f"{shown(tensor)} is in two files")
                found[tensor] = (name, entry)
        return found

    def _refuse_contradictions(self, folder: set[str]) -> None:
        """Raise ValueError for weight files or pieces that do not go together."""
        strange = [name for name in self.files if not name.endswith(".safetensors")]
        if strange or not self.files or {MASKS, *self.others} & {*self.files}:
            raise ValueError(f"its weight files are {shown(', '.join(self.files))}")
        own = {*map(packed_name, self.files)}
        missing = own - folder
        if stray := sorted({name for name in folder if name.endswith(packed_name(""))} - own):
            raise ValueError(f"it does not say what {shown(stray[0])} holds")
        if missing or (self.masks is None) != (MASKS in folder):
            raise ValueError(f"its folder lacks {min(missing, default=MASKS)}, or has it twice")
        for name, pieces in self.pieces.items():
            if name not in self._entries or not _fill(self._entries[name][1], name, pieces):
                raise ValueError(f"the pieces of {shown(name)} are not that tensor")
        layers = self.masks.entries().keys() if self.masks else set[str]()
        if layers - {piece.layer for each in self.pieces.values() for piece in each}:
            raise ValueError("it has masks of layers that are not packed")

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
            matrices.append(piece.place.arranged(matrix))
        in_3d = pieces[0].place.expert is not None and not pieces[0].place.stacked
        return (torch.stack if in_3d else torch.cat)(matrices).contiguous()

    def form(self, piece: Piece) -> Form | Tensor:
        """A piece in its form; for a DENSE piece the matrix, (c, b)."""
        file = self._packed_file(piece.place.tensors[0])
        start = piece.key("")
        keys = [name for name in tensor_names(file) if name.startswith(start)]
        tensors = self._stored(piece.place.tensors[0], keys)
        parts = {key.removeprefix(start): tensor for key, tensor in tensors.items()}
        try:
            self._refuse_growth(piece, parts)
            if piece.pattern is None:
                return parts[DENSE].view(piece.shape)
            return form_from(piece.form, piece.shape, parts, piece.pattern)
        except (ValueError, KeyError, TypeError, IndexError, RuntimeError) as error:
            raise ValueError(f"{file}: {printable(piece.layer)} is damaged: {error}") from error

    def _refuse_growth(self, piece: Piece, parts: Mapping[str, Tensor]) -> None:
        """Raise ValueError for a piece that would take much more memory than the file has bytes."""
        entry = self._entries[piece.place.tensors[0]][1]
        dense = bytes_of(piece.layer, entry["dtype"], piece.shape)
        if dense > MOST_GROWTH * sum(part.nbytes for part in parts.values()):
            raise ValueError(f"its {dense} bytes are more than {MOST_GROWTH} times those stored")

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


def _fill(entry: TensorEntry, name: str, pieces: list[Piece]) -> bool:
    """Whether some pieces are all parts of a tensor: it, or each expert in it once."""
    experts = [piece.place.expert for piece in pieces]
    shapes = {piece.shape[:: -1 if piece.place.transposed else 1] for piece in pieces}
    whole = experts == [None]
    if not whole and {*experts} != {*range(len(experts))}:
        return False
    own = all(piece.place.tensors == (name,) for piece in pieces)
    stacked = {piece.place.stacked for piece in pieces}
    if not own or len(shapes) != 1 or stacked not in ({None}, {len(pieces)}):
        return False
    rows, columns = shapes.pop()
    in_3d = [] if whole or stacked != {None} else [len(pieces)]
    return entry["shape"] == [*in_3d, rows if in_3d else rows * len(pieces), columns]


def _refuse_changed(folder: Path, known: Mapping[str, str]) -> None:
    """Raise ValueError, naming the files, unless a folder's files have the known SHA-256.

    Hidden files, which tools of hubs and of version control add, may be added.
    """
    there = {*files_below(folder)} - {PACKED}
    added = [name for name in sorted(there - known.keys()) if not f"/{name}".count("/.")]
    wrong = [f"{printable(name)} was added" for name in added]
    for name, digest in known.items():
        if name not in there:
            wrong.append(f"{printable(name)} is missing")
        elif sha256_of(folder / name) != digest:
            wrong.append(f"{printable(name)} was changed")
    if wrong:
        more = f", and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        raise ValueError(
            f"{folder} is not as it was packed: {', '.join(wrong[:NAMED])}{more}. "
            "Restore what differs, or pack the checkpoint again"
        )


def packed_name(file: str) -> str:
    """The name of a packed file, which Transformers does not take for a checkpoint."""
    return f"{file.removesuffix('.safetensors')}.packed.safetensors"
