"""Outputs of decoder blocks for every calibration batch, in memory or on disk."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

from torch import Tensor

from thanos_torch.runtime.files import begin, move, sync
from thanos_torch.runtime.progress import Seal

LIST = "list.json"  # beside the outputs of a block: their shapes and hashes


class Activations:
    """The output of one decoder block for every calibration batch, in memory.

    position  how many blocks the outputs have been through; at 0 there are none
    """

    def __init__(self) -> None:
        self.position = 0
        self._outputs: dict[int, Any] = {}

    def read(self, batch: int) -> Any:
        """The last block's output for a batch; None at position 0."""
        return self._outputs.get(batch)

    def write(self, batch: int, output: Any) -> None:
        """Keep what the next block returned for a batch. Every batch is read before it is written.

        In memory the new output takes the place of the old one at once.
        """
        self._outputs[batch] = output

    def advance(self) -> None:
        """Count one block more, after all its batches are written."""
        self.position += 1

    def drop_older(self) -> None:
        """Remove outputs of earlier blocks; called once the block at `position` is recorded."""


class StoredActivations(Activations):
    """Activations in a folder, where a resumed run finds them.

    The folder holds the outputs of one block, and for a moment those of the next, each with a
    sealed list of their hashes. Where a file is damaged or of another run, ValueError is raised
    after all outputs were removed: the next run computes them.
    """

    def __init__(self, folder: Path, at_most: int, seal: Seal) -> None:
        """Continue with the latest outputs in `folder` of at most `at_most` blocks."""
        super().__init__()
        self._folder, self._seal = folder, seal
        folder.mkdir(parents=True, exist_ok=True)
        found = [int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()]
        self.position = max((number for number in found if number <= at_most), default=0)
        self.drop_older()
        self._written: dict[str, Any] = {}
        self._list = self._read_list() if self.position else {}

    def read(self, batch: int) -> Any:
        """As `Activations`."""
        from safetensors.torch import load

        if not self.position:
            return None
        file = self._set(self.position) / _file_name(batch)
        try:
            content, known = file.read_bytes(), self._list[file.name]
        except (OSError, KeyError) as error:
            raise self._damage(f"{file} cannot be read: {error}") from error
        if hashlib.sha256(content).hexdigest() != known["sha256"]:
            raise self._damage(f"{file} changed after it was written")
        return _assembled(known["shape"], load(content))

    def write(self, batch: int, output: Any) -> None:
        """As `Activations`."""
        from safetensors.torch import save

        begin("activations")
        tensors: dict[str, Tensor] = {}
        shape = _taken_apart(output, tensors)
        self._unfinished.mkdir(exist_ok=True)
        file, content = self._unfinished / _file_name(batch), save(tensors)
        file.write_bytes(content)
        sync(file)
        digest = hashlib.sha256(content).hexdigest()
        self._written[file.name] = {"shape": shape, "sha256": digest}

    def advance(self) -> None:
        """As `Activations`. The older outputs stay until the block is recorded."""
        begin("rename")
        self.position += 1
        self._list, self._written = self._written, {}
        content = {"blocks": self.position, "batches": self._list}
        self._seal.write(self._unfinished / LIST, content)
        shutil.rmtree(self._set(self.position), ignore_errors=True)
        move(self._unfinished, self._set(self.position))

    def drop_older(self) -> None:
        """As `Activations`."""
        for entry in self._folder.iterdir():
            if entry != self._set(self.position):
                shutil.rmtree(entry, ignore_errors=True)

    def _read_list(self) -> dict[str, Any]:
        """Shape and hash of every batch's file. Raises ValueError for outputs of another run."""
        file = self._set(self.position) / LIST
        try:
            content = self._seal.read(file) or {}
        except ValueError as error:
            raise self._damage(str(error)) from None
        if content.get("blocks") != self.position:
            raise self._damage(f"{file} is not of this run")
        batches: dict[str, Any] = content["batches"]
        return batches

    def _damage(self, what: str) -> ValueError:
        """Remove the outputs, and return the error to raise."""
        shutil.rmtree(self._set(self.position), ignore_errors=True)
        return ValueError(f"activations {what}: the same command makes them again")

    @property
    def _unfinished(self) -> Path:
        return self._folder / "unfinished"

    def _set(self, position: int) -> Path:
        return self._folder / f"{position:05}"


def _file_name(batch: int) -> str:
    return f"{batch:05}.safetensors"


def _taken_apart(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Describe nested containers of tensors for JSON; add the tensors to `tensors`."""
    if isinstance(value, Tensor):
        tensors[str(len(tensors))] = value.contiguous().cpu()
        return {"tensor": str(len(tensors) - 1)}
    if type(value) in (tuple, list):
        parts = [_taken_apart(part, tensors) for part in value]
        return {type(value).__name__: parts}
    if type(value) is dict:
        return {"dict": [[key, _taken_apart(part, tensors)] for key, part in value.items()]}
    if value is None or isinstance(value, bool | int | float | str):
        return {"scalar": value}
    raise ValueError(f"decoder blocks return a {type(value).__name__}, which cannot be stored")


def _assembled(shape: Any, tensors: dict[str, Tensor]) -> Any:
    """The value that `_taken_apart` described."""
    if "tensor" in shape:
        return tensors[shape["tensor"]]
    if "tuple" in shape:
        return tuple(_assembled(part, tensors) for part in shape["tuple"])
    if "list" in shape:
        return [_assembled(part, tensors) for part in shape["list"]]
    if "dict" in shape:
        return {key: _assembled(part, tensors) for key, part in shape["dict"]}
    return shape["scalar"]
