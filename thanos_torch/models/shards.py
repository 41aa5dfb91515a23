"""Safetensors files of a checkpoint: which tensor is where, one block's tensors at a time."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thanos_torch.models.durable import whole_file
from thanos_torch.models.failpoints import begin

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
