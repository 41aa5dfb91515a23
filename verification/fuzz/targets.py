"""The readers of untrusted files, and valid files to start from."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import Random

from reference.patterns import parse_pattern
from verification.certificate import failed
from verification.conformance.capabilities import Capabilities, read_capabilities
from verification.conformance.cases import FOLDER, Case, load_case, load_cases
from verification.conformance.implementation import Answer, Failed, Refused
from verification.conformance.judge import judge_answer
from verification.conformance.outputs import OutputsFolder, read_output
from verification.conformance.tensors import parse_json, parse_tensors
from verification.fuzz.mutations import spoiled
from verification.fuzz.values import varied

CASE = "thanos-float64-13-unstructured"
REFUSAL = "refusal-block-size-negative"


@dataclass(frozen=True)
class FuzzTarget:
    """One reader.

    seeds   valid inputs
    read    takes an input and a folder, which is empty at first; may raise only ValueError and
            OSError
    change  makes an input of the seeds
    share   how many inputs it gets, compared with others: slow readers get fewer
    limit   seconds for one input
    """

    seeds: tuple[bytes, ...]
    read: Callable[[bytes, Path], object]
    change: Callable[[Random, tuple[bytes, ...]], bytes] = spoiled
    share: float = 1.0
    limit: float = 1.0


def _not_failed(answer: Answer) -> Answer:
    """Raise ValueError for Failed, which readers of outputs return instead of raising."""
    if isinstance(answer, Failed):
        raise ValueError(answer.message)
    return answer


def _judged(case: Case, answer: Answer) -> None:
    """Judge an untrusted answer; raises ValueError if a check fails."""
    checks = judge_answer(case, answer, Capabilities("mine", ("thanos",)))
    if failed(checks):
        raise ValueError("failed")


def find(name: str) -> FuzzTarget:
    """The reader of that name, of either kind."""
    return targets()[name] if name in targets() else value_targets()[name]


def value_targets() -> dict[str, FuzzTarget]:
    """Readers of files that stay well-formed, but whose values are changed, by name."""
    from verification.fuzz.folders import folder_targets

    known = targets()
    of_judge = {
        f"values of {name}": replace(known[name], change=varied)
        for name in ("manifest", "describe", "outputs")
    }
    return {**folder_targets(), **of_judge}


@cache
def targets() -> dict[str, FuzzTarget]:
    """The readers of files whose bytes are damaged, by name."""
    case, refusal = load_case(CASE), load_case(REFUSAL)
    files = [FOLDER / "inputs" / f"{CASE}.safetensors", FOLDER / "expected" / f"{CASE}.safetensors"]
    tensors = tuple(file.read_bytes() for file in files)
    stored = tuple(  # bfloat16 and float16
        (FOLDER / "inputs" / f"{other.id}.safetensors").read_bytes()
        for storage in ("bfloat16", "float16")
        for other in [next(one for one in load_cases() if one.storage == storage)]
    )
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

    def judged(content: bytes, folder: Path) -> None:
        (folder / "output.safetensors").write_bytes(content)
        _judged(case, read_output(case, folder / "output.safetensors"))

    def cases(content: bytes, folder: Path) -> object:
        (folder / "manifest.json").write_bytes(content)
        return load_cases(folder)

    def outputs(content: bytes, folder: Path) -> object:
        (folder / f"{CASE}.json").write_bytes(content)
        return _not_failed(OutputsFolder(folder, "thanos").answer(case))

    return {
        "tensors": FuzzTarget((*tensors, *stored), lambda content, _: parse_tensors(content)),
        "json": FuzzTarget((whole, description), lambda content, _: parse_json(content)),
        "describe": FuzzTarget(
            (description,), lambda content, _: read_capabilities(parse_json(content), "thanos", "")
        ),
        "pattern": FuzzTarget(
            (b"unstructured:0.5", b"2:4+outliers:0.1", b"structured:0.3+outliers:0.1"),
            lambda content, _: parse_pattern(content.decode()),
        ),
        "output": FuzzTarget(tensors[1:], output),
        "judge": FuzzTarget(tensors[1:], judged),
        "message": FuzzTarget(
            (
                b"block_size must be at least 1, got -2",
                b"block_size is -2.0: too small, 1e-3 < nan",
            ),
            lambda content, _: _judged(refusal, Refused(content.decode(errors="replace"))),
        ),
        "manifest": FuzzTarget((whole,), cases),
        "outputs": FuzzTarget((b'{"refused": "damping must be positive, got 0"}',), outputs),
    }
