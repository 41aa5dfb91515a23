"""Gram matrices of a run on disk, which let its layers be judged again."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from thanos_torch.checkpoint.record import PrunedLayer
from thanos_torch.runtime.files import whole_file

INDEX = "grams.json"


class GramWriter:
    """Writes the Gram matrix of every layer that is pruned; layers of one input share a file.

    Give it to `prune_model` as `on_layer`. For a layer that was refitted, its weight before the
    refit is written as well: the rules for masks are about that weight. Every file is whole when
    the index names it.
    """

    def __init__(self, folder: Path) -> None:
        """Continues a folder that holds the beginning of the same run."""
        self._folder = folder
        # By hash of the matrix: the layer that names its file.
        self._owners: dict[str, str] = {}
        self._index: dict[str, str] = _read_index(folder) if (folder / INDEX).is_file() else {}

    def __call__(self, layer: PrunedLayer) -> None:
        """Write the matrix of a layer unless another layer's is the same."""
        from safetensors.torch import save

        self._folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(layer.gram.contiguous().cpu().numpy().data).hexdigest()
        owner = self._owners.setdefault(digest, layer.name)
        if owner == layer.name:
            self._write(f"{owner}.safetensors", save({owner: layer.gram.contiguous()}))
        if layer.before_refit is not None:
            weight = {layer.name: layer.before_refit.contiguous()}
            self._write(_refit_file(self._folder, layer.name).name, save(weight))
        self._index[layer.name] = owner
        self._write(INDEX, (json.dumps(self._index, indent=1) + "\n").encode())

    def _write(self, name: str, content: bytes) -> None:
        with whole_file(self._folder / name) as unfinished:
            unfinished.write_bytes(content)


class GramReader:
    """The Gram matrices that a `GramWriter` wrote, or of any safetensors file, by layer."""

    def __init__(self, place: Path) -> None:
        """A folder, or a file whose tensors are named by their layers; ValueError for others."""
        from safetensors import SafetensorError, safe_open

        self._folder = place if place.is_dir() else None
        if self._folder:
            index = _read_index(place)
            self._places = {n: (place / f"{o}.safetensors", o) for n, o in index.items()}
            return
        try:
            with safe_open(place, framework="pt") as stored:
                self._places = {name: (place, name) for name in stored.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ValueError(f"gram file {place} cannot be read: {error}") from error

    def __contains__(self, layer: object) -> bool:
        """Whether there is a Gram matrix of a layer."""
        return layer in self._places

    def gram(self, layer: str) -> Tensor:
        """G of a layer, (b, b). Raises ValueError if it is missing or cannot be read."""
        return _read(*self._places[layer])

    def before_refit(self, layer: str) -> Tensor | None:
        """The weight of a layer, (c, b), before it was refitted; None if it is not there."""
        if self._folder is None or not _refit_file(self._folder, layer).is_file():
            return None
        return _read(_refit_file(self._folder, layer), layer)


def sha256_of_tensor(tensor: Tensor) -> str:
    """SHA-256 over a tensor's dtype, its shape and its bytes."""
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
    digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).cpu().numpy().data)
    return digest.hexdigest()


def sha256_of_all(digests: Mapping[str, str]) -> str:
    """One SHA-256 for the Gram matrices of some layers: over the lines `NAME SHA-256`, sorted."""
    lines = sorted(f"{name} {digest}\n" for name, digest in digests.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _refit_file(folder: Path, layer: str) -> Path:
    return folder / f"{layer}.before-refit.safetensors"


def _read(file: Path, name: str) -> Tensor:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as stored:
            tensor: Tensor = stored.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"gram file {file} cannot be read: {error}") from error
    return tensor


def _read_index(folder: Path) -> dict[str, str]:
    file = folder / INDEX
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
        names = [name for pair in index.items() for name in pair]
        strange = [name for name in names if Path(name).name != name]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"gram folder {folder}: {file} is no index of it: {error}") from error
    if strange:
        raise ValueError(f"gram folder {folder}: {strange[0]!r} is no name of a layer")
    found: dict[str, str] = index
    return found
