"""Reads and checks output files, and judges a folder of them. docs/vectors.md."""

import os
from pathlib import Path

import numpy as np

from verification.conformance.capabilities import read_capabilities
from verification.conformance.cases import Case
from verification.conformance.implementation import Answer, Failed, Output, Refused
from verification.conformance.tensors import parse_json, read_tensors

MAX_OUTPUT = 2**24
MAX_MESSAGE = 2**16


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
    return check_shapes(
        case, Output(found["weight"], found["mask"].astype(bool), found.get("block_losses"))
    )


def check_shapes(case: Case, output: Output) -> Answer:
    """The output, or Failed if a shape is wrong."""
    for name, array in (("weight", output.weight), ("mask", output.mask)):
        if array.shape != case.weight.shape:
            return Failed("output", f"{name} must be {case.weight.shape}, got {array.shape}")
    if output.block_losses is not None and np.ndim(output.block_losses) != 1:
        return Failed("output", f"block_losses must be a list, got {output.block_losses.shape}")
    return output


class OutputsFolder:
    """Outputs made elsewhere: ID.safetensors, or ID.json with {"refused": message}.

    `describe.json` in the folder declares what is supported.
    """

    def __init__(self, folder: Path, method: str) -> None:
        if not folder.is_dir():
            raise ValueError(f"outputs must be a folder, got {folder}")
        self._folder = folder
        described = self._file("describe.json")
        declared = parse_json(_text(described)) if described.is_file() else {}
        self.capabilities = read_capabilities(declared, method, str(folder))

    def answer(self, case: Case) -> Answer:
        """Read the output of a case, whose id `load_cases` has checked to be a plain file name."""
        try:
            refusal, output = (self._file(f"{case.id}.{end}") for end in ("json", "safetensors"))
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
        return f"input:  {case.input_path}\noutput: {self._folder / case.id}.safetensors"

    def _file(self, name: str) -> Path:
        """The path of a file; raises ValueError if it is a link that leads out of the folder."""
        path = self._folder / name
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self._folder)):
            raise ValueError(f"{name} is a link that leads out of the folder of outputs")
        return path


def _text(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_MESSAGE)
