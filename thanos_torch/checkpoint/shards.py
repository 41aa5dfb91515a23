"""Safetensors files of a checkpoint: find them, read tensors one at a time, write and join files.

Every other module of this package reads and writes safetensors through this one.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from itertools import chain, groupby
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor

from thanos_torch.runtime.arguments import checked
from thanos_torch.runtime.files import begin, whole_file
from thanos_torch.runtime.strangers import printable, read_json

# Files in the folder of a checkpoint.
WHOLE = "model.safetensors"  # all weights, if they are in one file
INDEX = "model.safetensors.index.json"  # else the file of each tensor
MASKS = "masks.safetensors"  # the masks of a pruned checkpoint
RECORD = "thanos.json"  # how a pruned checkpoint was made
PACKED = "packed.json"  # marks the folder that `thanos pack` writes


FORMAT = {"format": "pt"}  # the metadata that Transformers writes into a file of weights
COPIED_AT_ONCE = 2**22  # bytes

# Ends of the names of files that hold weights, in any format.
WEIGHT_KINDS = (
    *(".safetensors", ".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".h5", ".keras"),
    *(".msgpack", ".onnx", ".onnx_data", ".onnx.data", ".gguf", ".ggml", ".npz", ".ot", ".pb"),
    *(".tflite", ".nemo", ".joblib"),
)
_ADAPTER = "adapter_config.json"  # where PEFT names the base model of an adapter


class ShardIndex(TypedDict):
    """What a checkpoint's index holds: the file of each tensor."""

    weight_map: dict[str, str]


def tensor_files(folder: Path) -> dict[str, Path]:
    """The file of every tensor of a checkpoint, by the tensor's name.

    Raises ValueError, naming the file, if a file is missing, damaged, not in the safetensors
    format or outside of `folder`, and if the checkpoint is packed or an adapter.
    """
    refuse_packed(folder)
    if (folder / _ADAPTER).exists():
        raise ValueError(
            f"{folder / _ADAPTER} makes the folder an adapter's: merge the adapter into the "
            "weights, or remove the file"
        )
    if (folder / WHOLE).exists():
        file = inside(folder, WHOLE)
        return dict.fromkeys(tensor_names(file), file)
    if not (folder / INDEX).exists():
        raise ValueError(f"model folder {folder} holds no {WHOLE} and no {INDEX}")
    index = read_json(inside(folder, INDEX), ShardIndex, "is no index of safetensors files")
    wanted = index["weight_map"]
    files: dict[str, Path] = {}
    for shard in sorted(set(wanted.values())):
        if not shard.endswith(".safetensors"):
            raise ValueError(f"only safetensors files are read, got {shard!r} in {folder / INDEX}")
        files[shard] = inside(folder, shard)
    held = {shard: set(tensor_names(path)) for shard, path in files.items()}
    for name, shard in wanted.items():
        if name not in held[shard]:
            raise ValueError(
                f"{folder / shard} lacks the tensor {printable(name)} that {INDEX} places there"
            )
    return {name: files[shard] for name, shard in wanted.items()}


def model_files(folder: Path) -> dict[str, Path]:
    """As `tensor_files`; ValueError, naming it, for a further tensor in one of these files.

    Transformers reads such a tensor, although the index does not place it there.
    """
    files = tensor_files(folder)
    for file in sorted(set(files.values())):
        for name in tensor_names(file):
            if files.get(name) != file:
                raise ValueError(f"{file} holds {name}, which {INDEX} does not place there")
    return files


def holds_weights(name: str) -> bool:
    """Whether a file holds weights, or is an index of such files, by its name."""
    return name.lower().removesuffix(".index.json").endswith(WEIGHT_KINDS)


def is_side_file(name: str) -> bool:
    """Whether a file, by its path in a model's folder, is part of the model beside its weights.

    Files in hidden folders are not, such as those of Git and of the hub.
    """
    hidden = any(part.startswith((".", "__pycache__")) for part in Path(name).parts[:-1])
    return not hidden and not holds_weights(name)


def side_files(folder: Path, *apart: Path) -> list[str]:
    """Paths, in a model's folder, of its side files, those in its subfolders too.

    apart  folders inside it that do not count, because results are written there

    Raises ValueError for links to folders or out of the folder, and for what is no regular file.
    """
    found: list[str] = []
    others = {each.resolve() for each in apart}
    for place, folders, files in os.walk(folder, onerror=_refuse):
        here = Path(place)
        links = [name for name in folders if (here / name).is_symlink()]
        folders[:] = [name for name in folders if (here / name).resolve() not in others]
        for path in (here / name for name in (*files, *links)):
            name = path.relative_to(folder).as_posix()
            if is_side_file(name):
                if not inside(folder, name).is_file():
                    raise ValueError(f"{path} is no regular file")
                found.append(name)
    return sorted(found)


def _refuse(error: OSError) -> None:
    raise error


def weight_files(folder: Path) -> list[Path]:
    """The checkpoint's weight files.

    If the folder has no index and no model.safetensors, every .safetensors file except
    masks.safetensors. Raises ValueError if there is no such folder or file, if a file is a link out
    of the folder, and for whatever `tensor_files` refuses.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    refuse_packed(folder)
    if (folder / WHOLE).exists() or (folder / INDEX).exists():
        return sorted(set(tensor_files(folder).values()))
    names = sorted(file.name for file in folder.glob("*.safetensors") if file.name != MASKS)
    found = [inside(folder, name) for name in names]
    if not found:
        raise ValueError(f"{folder} holds no weights: no .safetensors file")
    return found


def refuse_packed(folder: Path) -> None:
    """Raise ValueError for a folder that `thanos pack` wrote: its weights are not plain tensors."""
    if (folder / PACKED).is_file():
        raise ValueError(f"{folder} is packed: unpack it first, or load it with load_packed")


def inside(folder: Path, name: str) -> Path:
    """The path of the file `name` in a checkpoint folder.

    Raises ValueError if the path leaves the folder, through a link or otherwise. Links in the hub's
    cache may lead to the files of the same model.
    """
    path, root = folder / name, folder.resolve()
    if root.parent.name == "snapshots" and (root.parent.parent / "blobs").is_dir():
        root = root.parent.parent
    if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
        raise ValueError(f"{folder} names a file outside of itself: {name!r}")
    if not path.resolve().is_relative_to(root):
        raise ValueError(f"{path} is a link to a file outside of its folder")
    return path


def files_below(folder: Path) -> list[str]:
    """The files of a folder and of the folders in it, as sorted paths with `/`.

    Raises ValueError for a link out of the folder, and for whatever is no regular file.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        inside(folder, name)
        if path.is_file():
            found.append(name)
        elif path.is_symlink() or not path.is_dir():
            raise ValueError(f"{path} is no regular file")
    return found


class Tensors:
    """Every tensor in a folder's safetensors files, by name; never the whole model in memory.

    folder  the folder
    files   the file of each tensor
    """

    @checked()
    def __init__(self, folder: Path) -> None:
        """Raises ValueError for a folder without safetensors, or with a bad index or file."""
        self.folder, self.files = folder, dict[str, Path]()
        for file in weight_files(folder):
            for name in tensor_names(file):
                if name in self.files:
                    raise ValueError(f"{name} is both in {self.files[name]} and in {file}")
                self.files[name] = file

    def __getitem__(self, name: str) -> Tensor:
        """Read a tensor. Raises ValueError if the folder has none of that name."""
        return read_tensors(self._file_of(name))[name]

    def described(self, name: str) -> Tensor:
        """A tensor's dtype and shape, on the meta device. Errors as for reading it."""
        return describe_tensors(self._file_of(name))[name]

    def _file_of(self, name: str) -> dict[str, Path]:
        if name not in self.files:
            raise ValueError(f"no safetensors file holds {name}")
        return {name: self.files[name]}


def tensor_names(file: Path) -> list[str]:
    """Names of the tensors in a file. Raises ValueError if the file is damaged or missing."""
    with _opened(file) as stored:
        return list(stored.keys())


def read_metadata(file: Path) -> dict[str, str]:
    """The file's own metadata. Raises ValueError if the file is damaged or missing."""
    with _opened(file) as stored:
        return stored.metadata() or {}


def read_tensors(files: Mapping[str, Path]) -> dict[str, Tensor]:
    """Tensors by name, each from its file. Raises ValueError for a damaged or missing file."""
    return _collected(files, lambda stored, name: stored.get_tensor(name))


def read_rows(file: Path, name: str, rows: Tensor) -> Tensor:
    """A matrix in which the rows of these numbers are as in the file, and no others are filled.

    file  was read before, and so is known to be sound
    rows  sorted, each once

    Memory is taken for the rows alone, because a system gives it out page by page, when a page is
    written. The library's own slices read the whole matrix first. Raises OSError for a file that
    ends too early.
    """
    part = _Part.of(file)
    entry = part.entries[name]
    table = torch.empty_like(without_content(name, entry["dtype"], entry["shape"]), device="cpu")
    width = table[0].nbytes if len(table) else 1
    step = max(1, COPIED_AT_ONCE // max(1, width))
    with file.open("rb") as content:
        for start in range(0, len(table), step):
            end = min(start + step, len(table))
            wanted = rows[(rows >= start) & (rows < end)]
            if len(wanted):
                content.seek(part.start + entry["data_offsets"][0] + start * width)
                piece = bytearray(content.read((end - start) * width))
                if len(piece) < (end - start) * width:
                    raise OSError(f"{file} cannot be read: it ends too early")
                read = torch.frombuffer(piece, dtype=torch.uint8).view(table.dtype)
                table[wanted] = read.view(-1, *table.shape[1:])[wanted - start]
    return table


def read_in_turn(file: Path, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
    """Tensors of a file, one after another. Raises ValueError for a damaged or missing file."""
    with _opened(file) as stored:
        for name in names:
            yield name, stored.get_tensor(name)


def describe_tensors(files: Mapping[str, Path]) -> dict[str, Tensor]:
    """The same tensors without their content, on the meta device."""

    def described(stored: Any, name: str) -> Tensor:
        part = stored.get_slice(name)
        return without_content(name, part.get_dtype(), part.get_shape())

    return _collected(files, described)


def _collected(files: Mapping[str, Path], read: Callable[[Any, str], Tensor]) -> dict[str, Tensor]:
    """What `read` makes of each tensor in its file; every file is opened once."""
    tensors: dict[str, Tensor] = {}
    for file in sorted(set(files.values())):
        with _opened(file) as stored:
            for name in (name for name, where in files.items() if where == file):
                tensors[name] = read(stored, name)
    return tensors


def without_content(name: str, dtype: str, shape: Sequence[int]) -> Tensor:
    """The tensor `name` on the meta device; `dtype` as safetensors files spell it.

    Raises ValueError if PyTorch has no such dtype.
    """
    from safetensors.torch import _TYPES  # the one table of what the format's dtypes are in torch

    if dtype not in _TYPES:
        raise ValueError(f"{name} has the dtype {dtype}, which PyTorch does not have")
    return torch.empty(tuple(shape), dtype=_TYPES[dtype], device="meta")


def bytes_of(name: str, dtype: str, shape: Sequence[int]) -> int:
    """The bytes of a tensor; `dtype` as safetensors files spell it. Errors as `without_content`."""
    return without_content(name, dtype, ()).itemsize * math.prod(shape)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        # Read, not mapped: maps count as memory too, and kill the process if the file shrinks.
        with safe_open(file, framework="pt", backend="pread") as stored:
            yield stored
    except (SafetensorError, OSError) as error:
        reason = "it is missing" if not file.exists() else str(error).splitlines()[0]
        raise ValueError(f"{file} cannot be read: {printable(reason)}") from error


def write_shard(
    file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write one file of weights, all of it or nothing. Raises OSError if the disk is full.

    metadata  by default what Transformers writes
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    begin("shard write")
    with whole_file(file) as unfinished:
        try:
            contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
            save_file(contiguous, unfinished, metadata=dict(metadata or FORMAT))
        except SafetensorError as error:
            raise OSError(f"{file} cannot be written: {error}") from error


PART_BYTES = 2**28  # of tensors that are held to be written together, unless one alone has more


class ShardWriter:
    """Writes one file of weights from tensors that come one after another, few of them in memory.

    The file is that of `write_shard` for all of them. Parts of a large one lie beside it meanwhile.
    """

    def __init__(self, file: Path, metadata: Mapping[str, str] | None = None) -> None:
        self._file, self._metadata = file, metadata or FORMAT
        self._held: dict[str, Tensor] = {}
        self._bytes = 0  # of what is held
        self._parts: dict[str, Path] = {}

    def add(self, tensors: Mapping[str, Tensor]) -> None:
        """Take some more tensors. Raises OSError if the disk is full."""
        self._held |= tensors
        self._bytes += sum(tensor.nbytes for tensor in tensors.values())
        if self._bytes > PART_BYTES:
            self._write_part()

    def finish(self) -> None:
        """Write the file. Raises OSError if the disk is full."""
        if not self._parts:
            write_shard(self._file, self._held, self._metadata)
            return
        self._write_part()
        with whole_file(self._file) as unfinished:
            join(self._parts, unfinished, self._metadata)
        for part in set(self._parts.values()):
            part.unlink()

    def _write_part(self) -> None:
        part = self._file.with_name(f".{self._file.name}.{len(set(self._parts.values()))}")
        write_shard(part, self._held)
        self._parts |= dict.fromkeys(self._held, part)
        self._held, self._bytes = {}, 0


def write_small(file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors that fit into memory twice; equal content gives equal files.

    The library's own writer orders the entries of the metadata at random.
    """
    from safetensors.torch import save

    content = save({name: tensor.contiguous() for name, tensor in tensors.items()})
    length = int.from_bytes(content[:8], "little")
    entries = json.loads(content[8 : 8 + length])
    with file.open("wb") as written:
        written.write(_new_header(metadata, entries))
        written.write(memoryview(content)[8 + length :])


def read_header(file: Path) -> bytes:
    """The JSON text of a file's header, without the 8 bytes that hold its length.

    For a file that was read before, and so is known to be sound.
    """
    with file.open("rb") as content:
        return content.read(int.from_bytes(content.read(8), "little"))


def with_length(header: bytes) -> bytes:
    """A header as it starts a file: its length in 8 bytes, then its text."""
    return len(header).to_bytes(8, "little") + header


def concatenate(files: Iterable[Path], target: Path) -> None:
    """Write `target` with all tensors of some files; no name may occur twice.

    The values of their metadata must be JSON objects, as those of masks are: objects of one name
    are merged.
    """
    parts = [_Part.of(file) for file in files]
    metadata: dict[str, dict[str, Any]] = {}
    for part in parts:
        for name, value in part.metadata.items():
            metadata[name] = metadata.get(name, {}) | json.loads(value)
    _copy_tensors(
        [(name, part) for part in parts for name in part.entries],
        target,
        {name: json.dumps(value) for name, value in metadata.items()},
    )


def join(files: Mapping[str, Path], target: Path, metadata: Mapping[str, str] = FORMAT) -> str:
    """Write `target` with some tensors, each from its file, as `save_file` would write them all.

    The bytes are those of `safetensors.torch.save_file`, but for the order of several metadata. A
    few megabytes are in memory at a time. Returns the SHA-256 of what was written.
    """
    parts = {file: _Part.of(file) for file in set(files.values())}
    dtypes = {name: parts[file].entries[name]["dtype"] for name, file in files.items()}
    order = [(name, parts[files[name]]) for name in _order_of_the_library(dtypes)]
    return _copy_tensors(order, target, metadata)


@dataclass(frozen=True, eq=False)
class _Part:
    """A file whose tensors are copied; it was read before, and so is known to be sound.

    entries  what its header says of each tensor
    start    where the data begins, in bytes
    """

    file: Path
    entries: dict[str, dict[str, Any]]
    metadata: dict[str, str]
    start: int

    @classmethod
    def of(cls, file: Path) -> "_Part":
        header = read_header(file)
        entries = json.loads(header)
        metadata = entries.pop("__metadata__", {})
        return cls(file, entries, metadata, len(with_length(header)))


def _order_of_the_library(dtypes: Mapping[str, str]) -> list[str]:
    """Names of tensors in the order in which the library's own writer lays them out."""
    from safetensors.torch import save

    empty = {
        name: torch.empty(0, dtype=without_content(name, dtype, ()).dtype)
        for name, dtype in dtypes.items()
    }
    content = save(empty)
    return list(json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]))


def _copy_tensors(
    order: Sequence[tuple[str, _Part]], target: Path, metadata: Mapping[str, str]
) -> str:
    """Write `target` with tensors in an order, each from its part; returns its SHA-256."""
    entries: dict[str, Any] = {}
    size = 0
    for name, part in order:
        first, last = part.entries[name]["data_offsets"]
        entries[name] = {**part.entries[name], "data_offsets": [size, size + last - first]}
        size += last - first
    digest = hashlib.sha256()
    with target.open("wb") as joined:
        for piece in chain([_new_header(metadata, entries)], _data(order)):
            joined.write(piece)
            digest.update(piece)
    return digest.hexdigest()


def _data(order: Iterable[tuple[str, _Part]]) -> Iterator[bytes]:
    """The bytes of tensors, in pieces. Raises OSError for a file that ends too early."""
    for part, group in groupby(order, key=lambda each: each[1]):
        with part.file.open("rb") as source:
            for name, _ in group:
                first, last = part.entries[name]["data_offsets"]
                source.seek(part.start + first)
                for begun in range(first, last, COPIED_AT_ONCE):
                    length = min(COPIED_AT_ONCE, last - begun)
                    piece = source.read(length)
                    if len(piece) < length:
                        raise OSError(f"{part.file} cannot be read: it ends too early")
                    yield piece


def _new_header(metadata: Mapping[str, str], entries: Mapping[str, Any]) -> bytes:
    """The start of a file as the library writes it, but for the order of the metadata.

    It is padded with spaces, because the format aligns the data to 8 bytes.
    """
    content = {"__metadata__": dict(sorted(metadata.items())), **entries}
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
    return with_length(text + b" " * (-len(text) % 8))


def shards_of(tensors: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """The files that `save_pretrained` would write for some tensors, each with its tensors' names.

    tensors  in the order of the model; they may be on the meta device
    """
    from huggingface_hub import split_torch_state_dict_into_shards

    split = split_torch_state_dict_into_shards(
        dict(tensors),
        filename_pattern=WHOLE.replace(".", "{suffix}.", 1),
        max_shard_size=largest_shard(),
    )
    return split.filename_to_tensors


def largest_shard() -> str | int:
    """The size of a file of weights that `save_pretrained` does not exceed by default: "50GB"."""
    from transformers import PreTrainedModel

    size: str | int = (
        signature(PreTrainedModel.save_pretrained).parameters["max_shard_size"].default
    )
    return size


def write_index(
    file: Path, shards: Mapping[str, Sequence[str]], tensors: Mapping[str, Tensor]
) -> None:
    """Write the index of the files of `shards_of`, as `save_pretrained` does."""
    sizes = {
        "total_parameters": sum(each.numel() for each in tensors.values()),
        "total_size": sum(each.nbytes for each in tensors.values()),
    }
    places = {name: shard for shard, names in shards.items() for name in names}
    text = json.dumps({"metadata": sizes, "weight_map": places}, indent=2, sort_keys=True)
    with whole_file(file) as unfinished:
        unfinished.write_text(text + "\n", encoding="utf-8")
