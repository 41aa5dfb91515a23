"""The cases that implementations are judged with, from `verification/vectors/`. docs/vectors.md."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from verification.conformance.tensors import Tensor, TensorFile, parse_json, read_tensors

FOLDER = Path(__file__).parents[1] / "vectors"
FORMAT = 1
EXPECTED = ("weights", "mask", "certificate", "refusal")
TIERS = ("first-five", "core", "all")  # each holds the ones before it


@dataclass(frozen=True)
class Case:
    """One case of the manifest and its files.

    condition  upper bound of the condition number of H; None for a refusal
    names      of a refusal: words of which the message must hold one
    values     of a refusal: values of which the message must hold one, if there are any
    tier       the first of TIERS that holds the case; fresh cases are in "all" alone
    """

    id: str
    expected: str
    method: str
    pattern: str
    dtype: str
    storage: str | None
    condition: float | None
    flags: tuple[str, ...]
    names: tuple[str, ...]
    values: tuple[str, ...]
    folder: Path
    tier: str = TIERS[-1]

    @property
    def input_path(self) -> Path:
        """The input file among the vectors."""
        return self.folder / "inputs" / f"{self.id}.safetensors"

    def write_input(self, path: str | Path) -> None:
        """Write the input file that a program gets."""
        shutil.copyfile(self.input_path, path)

    def is_in(self, tier: str) -> bool:
        """Whether a tier holds the case."""
        return TIERS.index(self.tier) <= TIERS.index(tier)

    @cached_property
    def input(self) -> TensorFile:
        """Weight and Gram matrix, with the options as text in the metadata."""
        return read_tensors(self.input_path)

    @cached_property
    def answer(self) -> TensorFile:
        """The expected mask and weight; empty if only a certificate or a refusal is expected."""
        path = self.folder / "expected" / f"{self.id}.safetensors"
        return read_tensors(path) if self.expected in ("weights", "mask") else TensorFile({}, {})

    def as_python(self) -> str:
        """Python code that makes `case`."""
        return f"from verification.conformance import load_case\ncase = load_case({self.id!r})"

    @property
    def weight(self) -> Tensor:
        """W, (c, b); bfloat16 as float32."""
        return self.input["weight"]

    @property
    def gram(self) -> Tensor:
        """G, (b, b)."""
        return self.input["gram"]

    @property
    def block_size(self) -> int | float:
        """B; a refusal may have one that is no whole number."""
        text = self.input.metadata["block_size"]
        return int(text) if text.lstrip("-").isdigit() else float(text)

    @property
    def damping(self) -> float:
        """γ."""
        return float(self.input.metadata["damping"])


def load_cases(folder: Path = FOLDER) -> tuple[Case, ...]:
    """All cases of a manifest. Raises ValueError if it does not follow docs/vectors.md."""
    manifest = parse_json((folder / "manifest.json").read_bytes())
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"{folder / 'manifest.json'} is no manifest of format {FORMAT}")
    cases = tuple(_cases(manifest, folder))
    if len(cases) != manifest.get("total"):
        raise ValueError(f"{len(cases)} cases in the manifest, {manifest.get('total')} announced")
    if len({case.id for case in cases}) != len(cases):
        raise ValueError("two cases of the manifest have the same id")
    return cases


def _cases(manifest: Mapping[str, Any], folder: Path) -> Iterator[Case]:
    entries = manifest.get("cases")
    if not isinstance(entries, list):
        raise ValueError("cases must be a list")
    for entry in entries:
        try:
            lists = {key: tuple(entry[key]) for key in ("flags", "names", "values")}
            case = Case(**{**entry, **lists}, folder=folder)
        except (TypeError, KeyError) as error:
            raise ValueError(f"no case: {entry!r}") from error
        check_id(case.id)
        if case.expected not in EXPECTED:
            raise ValueError(f"case {case.id} expects {case.expected!r}")
        if case.tier not in TIERS:
            raise ValueError(f"tier of case {case.id} must be in {TIERS}, got {case.tier!r}")
        yield case


def metadata_of(
    method: str,
    pattern: object,
    block_size: float,
    damping: float,
    dtype: str,
    storage: str | None,
) -> dict[str, str]:
    """The options of a case as text, the metadata of its input file."""
    return {
        "method": method,
        "pattern": str(pattern),
        "block_size": str(block_size),
        "damping": repr(damping),
        "dtype": dtype,
        "storage": storage or "none",
    }


def check_id(name: object) -> None:
    """Raise ValueError unless an id is a safe file name: a-z, 0-9, - and inner dots."""
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789-.")
    if not isinstance(name, str) or not name or set(name) - allowed or name.startswith("."):
        raise ValueError(f"no id of a case: {name!r}")


def load_case(name: str) -> Case:
    """The case with an id. Raises ValueError if there is none."""
    for case in load_cases():
        if case.id == name:
            return case
    raise ValueError(f"case must be the id of one in the manifest, got {name!r}")
