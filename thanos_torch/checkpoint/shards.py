"""Safetensors files of a checkpoint: find tensors, read them one at a time, join files."""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thanos_torch.checkpoint.masks import MASKS
from thanos_torch.runtime.files import begin, whole_file

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PACKED = "packed.json"  # in a folder of `thanos pack`
RECORD = "thanos.json"  # what a pruned checkpoint's folder says of its making


def tensor_files(folder: Path) -> dict[str, Path]:
    """The file of every tensor of a checkpoint, by the tensor's name.

    Raises ValueError, naming the file, if one is missing or damaged, is no safetensors file, or
    lies outside of `folder`, and for a packed checkpoint.
    """
    refuse_packed(folder)
    if (folder / WHOLE).exists():
        file = inside(folder, WHOLE)
        return dict.fromkeys(tensor_names(file), file)
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        wanted = {str(name): str(file) for name, file in index["weight_map"].items()}
    except FileNotFoundError:
        raise ValueError(f"model folder {folder} holds no {WHOLE} and no {INDEX}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"{folder / INDEX} is no index of safetensors files") from None
    files: dict[str, Path] = {}
    for shard in sorted(set(wanted.values())):
        if not shard.endswith(".safetensors"):
            raise ValueError(f"only safetensors files are read, got {shard!r} in {folder / INDEX}")
        files[shard] = inside(folder, shard)
    held = {shard: set(tensor_names(path)) for shard, path in files.items()}
    for name, shard in wanted.items():
        if name not in held[shard]:
            raise ValueError(f"{folder / shard} lacks the tensor {name} that {INDEX} places there")
    return {name: files[shard] for name, shard in wanted.items()}


def refuse_packed(folder: Path) -> None:
    """Raise ValueError for a folder of `thanos pack`, whose weights are no plain tensors."""
    if (folder / PACKED).is_file():
        raise ValueError(f"{folder} is packed: unpack it first, or load it with load_packed")


def inside(folder: Path, name: str) -> Path:
    """The file `name` of a checkpoint folder.

    Raises ValueError if the path leaves the folder, through a link or otherwise. The links of the
    hub's cache may lead to the files of the same model.
    """
    path, root = folder / name, folder.resolve()
    if root.parent.name == "snapshots" and (root.parent.parent / "blobs").is_dir():
        root = root.parent.parent
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"{folder} names a file outside of itself: {name!r}")
    if not path.resolve().is_relative_to(root):
        raise ValueError(f"{path} is a link to a file outside of its folder")
    return path


def tensor_names(file: Path) -> list[str]:
    """Names of the tensors in a file. Raises ValueError if it is damaged or missing."""
    with _opened(file) as stored:
        return list(stored.keys())


def read_tensors(files: Mapping[str, Path]) -> dict[str, Tensor]:
    """Tensors by name, each from its file. Raises ValueError for a damaged or missing file."""
    tensors: dict[str, Tensor] = {}
    for file in sorted(set(files.values())):
        with _opened(file) as stored:
            for name in (name for name, where in files.items() if where == file):
                tensors[name] = stored.get_tensor(name)
    return tensors


def describe_tensors(files: Mapping[str, Path]) -> dict[str, Tensor]:
    """The same tensors without their content, on the meta device."""
    tensors: dict[str, Tensor] = {}
    for file in sorted(set(files.values())):
        with _opened(file) as stored:
            for name in (name for name, where in files.items() if where == file):
                part = stored.get_slice(name)
                tensors[name] = without_content(part.get_dtype(), part.get_shape())
    return tensors


def without_content(dtype: str, shape: Sequence[int]) -> Tensor:
    """A tensor on the meta device, of a dtype by its name in safetensors files."""
    from safetensors.torch import _TYPES  # the one table of what the format's dtypes are in torch

    return torch.empty(tuple(shape), dtype=_TYPES[dtype], device="meta")


def write_shard(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write one safetensors file, all of it or nothing. Raises OSError where the disk is full."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    begin("shard write")
    with whole_file(file) as unfinished:
        try:
            contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
            save_file(contiguous, unfinished, metadata={"format": "pt"})
        except SafetensorError as error:
            raise OSError(f"{file} cannot be written: {error}") from error


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        # Read, not mapped: maps count as memory too, and kill the process if the file shrinks.
        with safe_open(file, framework="pt", backend="pread") as stored:
            yield stored
    except (SafetensorError, OSError) as error:
        reason = "it is missing" if not file.exists() else str(error).splitlines()[0]
        raise ValueError(f"{file} cannot be read: {reason}") from error


class Tensors:
    """Every tensor in a folder's safetensors files, by name; never the whole model in memory.

    folder  where they are
    files   the file of each tensor
    """

    def __init__(self, folder: Path) -> None:
        """Raises ValueError for a folder without safetensors, or with a bad index or file."""
        self.folder, self.files = folder, dict[str, Path]()
        for file in weight_files(folder):
            for name in tensor_names(file):
                if name in self.files:
                    raise ValueError(f"{name} is both in {self.files[name]} and in {file}")
                self.files[name] = file

    def __getitem__(self, name: str) -> Tensor:
        """Read a tensor; ValueError if there is none of that name."""
        return read_tensors(self._file_of(name))[name]

    def described(self, name: str) -> Tensor:
        """A tensor's dtype and shape, on the meta device; ValueError if there is none."""
        try:
            return describe_tensors(self._file_of(name))[name]
        except KeyError as error:
            raise ValueError(f"{name} is of a type that torch has not: {error}") from None

    def _file_of(self, name: str) -> dict[str, Path]:
        if name not in self.files:
            raise ValueError(f"no safetensors file holds {name}")
        return {name: self.files[name]}


def weight_files(folder: Path) -> list[Path]:
    """The checkpoint's weight files.

    If the folder has no index and no model.safetensors, every .safetensors file but
    masks.safetensors. Raises ValueError if there are none, if they are packed, if one is a link out
    of the folder, or if a checkpoint's index or files are bad.
    """
    refuse_packed(folder)
    if (folder / WHOLE).exists() or (folder / INDEX).exists():
        return sorted(set(tensor_files(folder).values()))
    names = sorted(file.name for file in folder.glob("*.safetensors") if file.name != MASKS)
    found = [inside(folder, name) for name in names]
    if not found:
        raise ValueError(f"{folder} holds no weights: no .safetensors file")
    return found


_ALIGNMENT = 8  # the format wants its header to end at a multiple of this


def concatenate(files: Iterable[Path], target: Path) -> None:
    """Write `target` with all tensors of some files; no name may occur twice.

    Their metadata are JSON objects, as those of masks: what has one name there is joined too.
    """
    header: dict[str, Any] = {}
    metadata: dict[str, dict[str, Any]] = {}
    parts: list[tuple[Path, int]] = []
    size = 0
    for file in files:
        start, content = _header(file)
        for name, value in content.pop("__metadata__", {}).items():
            metadata[name] = metadata.get(name, {}) | json.loads(value)
        for name, entry in content.items():
            begin, end = entry["data_offsets"]
            header[name] = {**entry, "data_offsets": [size + begin, size + end]}
        size += file.stat().st_size - start
        parts.append((file, start))
    joined_metadata = {name: json.dumps(value) for name, value in sorted(metadata.items())}
    text = json.dumps({"__metadata__": joined_metadata, **header}).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with target.open("wb") as joined:
        joined.write(len(text).to_bytes(8, "little") + text)
        for file, start in parts:
            with file.open("rb") as part:
                part.seek(start)
                shutil.copyfileobj(part, joined)


def _header(file: Path) -> tuple[int, dict[str, Any]]:
    """Where the data starts, and what the header says."""
    with file.open("rb") as content:
        length = int.from_bytes(content.read(8), "little")
        return 8 + length, json.loads(content.read(length))
