"""Outputs of decoder blocks for every calibration batch, in memory or on disk."""

import json
import shutil
from pathlib import Path
from typing import Any

from torch import Tensor

from thanos_torch.runtime.files import begin, move, sync


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

    The folder holds the outputs of one block, and for a moment those of the next. Reading raises
    ValueError if a file is damaged. The outputs are removed then, and the next run computes them.
    """

    def __init__(self, folder: Path, at_most: int) -> None:
        """Continue with the latest outputs in `folder` of at most `at_most` blocks."""
        super().__init__()
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        found = [int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()]
        self.position = max((number for number in found if number <= at_most), default=0)
        self.drop_older()

    def read(self, batch: int) -> Any:
        """As `Activations`."""
        from safetensors import SafetensorError, safe_open

        if not self.position:
            return None
        file = self._set(self.position) / f"{batch:05}.safetensors"
        try:
            with safe_open(file, framework="pt") as stored:
                shape = json.loads(stored.metadata()["shape"])
                names = stored.keys()
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
        """As `Activations`. The older outputs stay until the block is recorded."""
        begin("rename")
        sync(self._unfinished)
        self.position += 1
        shutil.rmtree(self._set(self.position), ignore_errors=True)
        move(self._unfinished, self._set(self.position))

    def drop_older(self) -> None:
        """As `Activations`."""
        for entry in self._folder.iterdir():
            if entry != self._set(self.position):
                shutil.rmtree(entry, ignore_errors=True)

    @property
    def _unfinished(self) -> Path:
        return self._folder / "unfinished"

    def _set(self, position: int) -> Path:
        return self._folder / f"{position:05}"


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
