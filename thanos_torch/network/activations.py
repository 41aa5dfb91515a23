"""Activations between decoder blocks: each block's outputs on disk or in memory, batch by batch."""

import json
import shutil
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from thanos_torch.runtime.files import begin, move, sync


class Activations(Protocol):
    """Outputs of one decoder block for every calibration batch.

    position  how many blocks they have been through; at 0 there are none
    """

    position: int

    def read(self, batch: int) -> Any:
        """What the last block returned for a batch; None at position 0."""

    def write(self, batch: int, output: Any) -> None:
        """Keep what the next block returned; `read` goes on to answer with what was before."""

    def advance(self) -> None:
        """All batches are written: they take the place of those before."""


class InMemory:
    """Activations of a process alone."""

    def __init__(self) -> None:
        self.position = 0
        self._outputs: dict[int, Any] = {}

    def read(self, batch: int) -> Any:
        """As `Activations`."""
        return self._outputs.get(batch)

    def write(self, batch: int, output: Any) -> None:
        """As `Activations`, but batch by batch in place, for a batch is read once a pass."""
        self._outputs[batch] = output

    def advance(self) -> None:
        """As `Activations`."""
        self.position += 1


class OnDisk:
    """Activations in a folder, where the next process finds them.

    Only one set is held, and for a moment the next one. Reading raises ValueError if a file is
    damaged: that set is removed then, and the next run calculates it anew.
    """

    def __init__(self, folder: Path, at_most: int) -> None:
        """The furthest set of `folder`, but no further than `at_most` blocks."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        found = [int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()]
        self.position = max((number for number in found if number <= at_most), default=0)
        self._keep_only_this()

    def read(self, batch: int) -> Any:
        """As `Activations`."""
        from safetensors import SafetensorError, safe_open

        if not self.position:
            return None
        file = self._set(self.position) / f"{batch:05}.safetensors"
        try:
            with safe_open(file, framework="pt") as stored:
                shape = json.loads(stored.metadata()["shape"])
                names = list(stored.keys())  # it is no dict
                tensors = {name: stored.get_tensor(name).clone() for name in names}
                return _assembled(shape, tensors)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            shutil.rmtree(self._set(self.position), ignore_errors=True)
            raise ValueError(f"activations {file} cannot be read: {error}") from error

    def write(self, batch: int, output: Any) -> None:
        """As `Activations`."""
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        begin("activations")
        tensors: dict[str, Tensor] = {}
        shape = json.dumps(_taken_apart(output, tensors))
        self._unfinished.mkdir(exist_ok=True)
        file = self._unfinished / f"{batch:05}.safetensors"
        try:
            save_file(tensors, file, metadata={"shape": shape})
        except SafetensorError as error:
            raise OSError(f"{file} cannot be written: {error}") from error
        sync(file)

    def advance(self) -> None:
        """As `Activations`; the set before stays until `drop_others`: its block is not recorded."""
        begin("rename")
        sync(self._unfinished)
        self.position += 1
        shutil.rmtree(self._set(self.position), ignore_errors=True)
        move(self._unfinished, self._set(self.position))

    def drop_others(self) -> None:
        """Remove all sets but the last."""
        self._keep_only_this()

    @property
    def _unfinished(self) -> Path:
        return self._folder / "unfinished"

    def _set(self, position: int) -> Path:
        return self._folder / f"{position:05}"

    def _keep_only_this(self) -> None:
        for entry in self._folder.iterdir():
            if entry != self._set(self.position):
                shutil.rmtree(entry, ignore_errors=True)


def _taken_apart(value: Any, tensors: dict[str, Tensor]) -> Any:
    """A JSON-able description of `value`, whose tensors are added to `tensors`."""
    if isinstance(value, Tensor):
        tensors[str(len(tensors))] = value.contiguous().cpu()
        return {"tensor": str(len(tensors) - 1)}
    if type(value) in (tuple, list):
        parts = [_taken_apart(part, tensors) for part in value]
        return {type(value).__name__: parts}
    if value is None:
        return {}
    raise ValueError(f"decoder blocks return a {type(value).__name__}, which cannot be stored")


def _assembled(shape: Any, tensors: dict[str, Tensor]) -> Any:
    if "tensor" in shape:
        return tensors[shape["tensor"]]
    if "tuple" in shape:
        return tuple(_assembled(part, tensors) for part in shape["tuple"])
    if "list" in shape:
        return [_assembled(part, tensors) for part in shape["list"]]
    return None
