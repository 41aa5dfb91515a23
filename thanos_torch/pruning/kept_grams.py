"""The folder of --keep-gram: the Gram matrix of every layer that is pruned."""

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import Tensor

from thanos_torch.checkpoint.record import PrunedLayer
from thanos_torch.checkpoint.shards import write_small
from thanos_torch.runtime.arguments import checked
from thanos_torch.runtime.files import facts_of, refuse_occupied, whole_file, write_json
from thanos_torch.runtime.progress import alone_in

GRAMS_INDEX = "grams.json"  # for each layer, the layer that names the file of its matrix


class GramWriter:
    """Writes the Gram matrix of every layer that is pruned; layers of one input share a file.

    Give it to `prune_model` or `prune_checkpoint` as `on_layer`. For a layer that was refitted, its
    weight before the refit is written as well: the rules for masks are about that weight. Every
    file is whole when the index names it. The folder is locked while a run writes into it.

    folder  where the matrices go
    """

    @checked()
    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._lock: ExitStack | None = None
        # Of the block at work: by hash of the matrix the layer that names its file.
        self._owners: dict[str, str] = {}
        self._layers: dict[str, str] = {}
        self._files: dict[str, dict[str, Any]] = {}
        self._index: dict[str, str] = {}

    @staticmethod
    def discard(folder: Path) -> None:
        """Remove what was written into a folder."""
        for name in (GRAMS_INDEX, "*.safetensors"):
            for file in folder.glob(name):
                file.unlink()

    def open(self, entries: Iterable[Mapping[str, Any]] | None = None) -> None:
        """Begin in a new folder, or go on with what `take` returned for the finished blocks.

        Raises ValueError if the folder is occupied, or if another run is at work in it.
        """
        if self._lock is not None:
            return
        if entries is None:
            refuse_occupied(self.folder, "keep_gram")
        lock = ExitStack()
        lock.enter_context(alone_in(self.folder))
        self._lock = lock
        self._index = {
            name: owner for each in entries or () for name, owner in each["layers"].items()
        }

    def close(self) -> None:
        """Unlock the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __call__(self, layer: PrunedLayer) -> None:
        """Write the matrix of a layer unless another layer of its block has the same."""
        self.open()
        digest = hashlib.sha256(layer.gram.contiguous().cpu().numpy().data).hexdigest()
        owner = self._owners.setdefault(digest, layer.name)
        if owner == layer.name:
            self._write(f"{owner}.safetensors", owner, layer.gram)
        if layer.before_refit is not None:
            self._write(refit_file(self.folder, layer.name).name, layer.name, layer.before_refit)
        self._layers[layer.name] = self._index[layer.name] = owner
        self.write_index()

    def write_index(self) -> None:
        """Write the index of all layers so far."""
        write_json(self.folder / GRAMS_INDEX, dict(sorted(self._index.items())))

    def take(self) -> dict[str, Any]:
        """What was written for the block that is finished now, JSON-able: layers and files."""
        taken = {"layers": self._layers, "files": self._files}
        self._owners, self._layers, self._files = {}, {}, {}
        return taken

    def _write(self, file: str, name: str, tensor: Tensor) -> None:
        with whole_file(self.folder / file) as unfinished:
            write_small(unfinished, {name: tensor.cpu()}, {})
        self._files[file] = facts_of(self.folder / file)


def refit_file(folder: Path, layer: str) -> Path:
    """The file with a layer's weight before its refit."""
    return folder / f"{layer}.before-refit.safetensors"
