"""Reads and checks output files, and judges a folder of them. docs/vectors.md."""

import os
from collections.abc import Mapping
from pathlib import Path

from verification.conformance.capabilities import read_capabilities
from verification.conformance.cases import Case
from verification.conformance.implementation import (
    MAX_MESSAGE,
    Answer,
    Failed,
    Output,
    Refused,
    wrong_shape,
)
from verification.conformance.tensors import parse_json, read_tensors

MAX_OUTPUT = 2**24


def read_output(case: Case, path: Path) -> Answer:
    """Read an output file and check its types and shapes."""
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is no file")  # reading a pipe may never end
        found = read_tensors(path, MAX_OUTPUT)
    except (OSError, ValueError) as error:
        return Failed("output", f"{path.name} cannot be read: {error}")
    for name in ("weight", "mask"):
        if name not in found:
            return Failed("output", f"{path.name} holds no tensor {name}")
    wanted = case.input.types["weight"]
    if found.types["weight"] != wanted:
        return Failed("output", f"weight must be {wanted}, got {found.types['weight']}")
    if found.types["mask"] not in ("BOOL", "U8") or (found["mask"] > 1).any():
        return Failed("output", f"mask must be BOOL or U8, 0 and 1, got {found.types['mask']}")
    if found.types.get("block_losses", "F64") != "F64":
        return Failed("output", f"block_losses must be F64, got {found.types['block_losses']}")
    output = Output(found["weight"], found["mask"].astype(bool), found.get("block_losses"))
    return wrong_shape(case.weight.shape, output) or output


class OutputsFolder:
    """Outputs made elsewhere: NAME.safetensors, or NAME.json with {"refused": message}.

    `describe.json` in the folder declares what is supported.

    names  the NAME of every case by its id; the ids themselves by default
    """

    def __init__(self, folder: Path, method: str, names: Mapping[str, str] | None = None) -> None:
        if not folder.is_dir():
            raise ValueError(f"outputs must be a folder, got {folder}")
        self._folder, self._names = folder, names
        described = self._file("describe.json")
        declared = parse_json(_text(described)) if described.is_file() else {}
        self.capabilities = read_capabilities(declared, method, str(folder))

    def answer(self, case: Case) -> Answer:
        """Read the output of a case; `load_cases` has checked that its id is a plain file name."""
        name = self._name(case)
        try:
            refusal, output = (self._file(f"{name}.{end}") for end in ("json", "safetensors"))
        except ValueError as error:
            return Failed("output", str(error))
        if refusal.is_file():
            try:
                said = parse_json(_text(refusal))
            except (OSError, ValueError) as error:
                return Failed("output", f"{refusal.name} cannot be read: {error}")
            if not isinstance(said, dict) or not isinstance(said.get("refused"), str):
                return Failed("output", f'{refusal.name} must be {{"refused": message}}')
            return Refused(said["refused"])
        return read_output(case, output)

    def reproduce(self, case: Case) -> str:
        """Paths of the input and the output."""
        return f"{case.as_python()}\n# its output is {self._folder / self._name(case)}.safetensors"

    def close(self) -> None:
        """Nothing is open."""

    def _name(self, case: Case) -> str:
        return case.id if self._names is None else self._names[case.id]

    def _file(self, name: str) -> Path:
        """The path of a file; raises ValueError if it is a link that leads out of the folder."""
        path = self._folder / name
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self._folder)):
            raise ValueError(f"{name} is a link that leads out of the folder of outputs")
        return path


def _text(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_MESSAGE)
