"""The readers of files of others, and right files to start from."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reference.patterns import parse_pattern
from verification.conformance.capabilities import read_capabilities
from verification.conformance.cases import load_case, load_cases
from verification.conformance.implementation import Answer, Failed
from verification.conformance.outputs import OutputsFolder, read_output
from verification.conformance.tensors import parse_json, parse_tensors
from verification.vectors import FOLDER

CASE = "thanos-float64-13-unstructured"


@dataclass(frozen=True)
class Target:
    """One reader.

    seeds  right inputs
    read   takes an input and an empty folder to work in; may raise ValueError and OSError only
    """

    seeds: tuple[bytes, ...]
    read: Callable[[bytes, Path], object]


def _not_failed(answer: Answer) -> Answer:
    """Readers of outputs return what is wrong: it is a failure of the one who wrote them."""
    if isinstance(answer, Failed):
        raise ValueError(answer.message)
    return answer


def targets() -> dict[str, Target]:
    """All of them, by name."""
    case = load_case(CASE)
    files = [FOLDER / "inputs" / f"{CASE}.safetensors", FOLDER / "expected" / f"{CASE}.safetensors"]
    tensors = tuple(file.read_bytes() for file in files)
    manifest = json.loads((FOLDER / "manifest.json").read_text())
    manifest["cases"] = manifest["cases"][:2] + manifest["cases"][-2:]
    manifest["total"] = len(manifest["cases"])
    described = {
        "name": "mine", "methods": ["thanos"], "patterns": ["n:m"], "dtypes": ["float32"],
        "storage": ["float16"], "refusals": True, "arithmetic": "float64",
    }  # fmt: skip
    whole, description = json.dumps(manifest).encode(), json.dumps(described).encode()

    def output(content: bytes, folder: Path) -> object:
        (folder / "output.safetensors").write_bytes(content)
        return _not_failed(read_output(case, folder / "output.safetensors"))

    def cases(content: bytes, folder: Path) -> object:
        (folder / "manifest.json").write_bytes(content)
        return load_cases(folder)

    def outputs(content: bytes, folder: Path) -> object:
        (folder / f"{CASE}.json").write_bytes(content)
        return _not_failed(OutputsFolder(folder, "thanos").answer(case))

    return {
        "tensors": Target(tensors, lambda content, _: parse_tensors(content)),
        "json": Target((whole, description), lambda content, _: parse_json(content)),
        "describe": Target(
            (description,), lambda content, _: read_capabilities(parse_json(content), "thanos", "")
        ),
        "pattern": Target(
            (b"unstructured:0.5", b"2:4+outliers:0.1", b"structured:0.3+outliers:0.1"),
            lambda content, _: parse_pattern(content.decode()),
        ),
        "output": Target(tensors[1:], output),
        "manifest": Target((whole,), cases),
        "outputs": Target((b'{"refused": "damping must be positive, got 0"}',), outputs),
    }
