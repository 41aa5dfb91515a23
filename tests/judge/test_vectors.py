"""The vectors are complete, follow their page, and are made by exact arithmetic."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from verification.conformance import load_case, load_cases
from verification.conformance.cases import FOLDER
from verification.vectors.make import make_vectors
from verification.vectors.refusals import refusals

MAX_BYTES = 5_000_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vectors")
    make_vectors(folder)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    data = [*folder.glob("*/*.safetensors"), folder / "manifest.json"]
    return {str(file.relative_to(folder)): file.read_bytes() for file in data}


@pytest.mark.long
def test_making_them_again_gives_the_same_bytes(made: Path) -> None:
    expected, found = files(FOLDER), files(made)
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []


def test_manifest_is_what_its_schema_says() -> None:
    manifest = json.loads((FOLDER / "manifest.json").read_text())
    jsonschema.validate(manifest, json.loads((FOLDER / "schema.json").read_text()))
    used = {flag for case in manifest["cases"] for flag in case["flags"]}
    assert used == set(manifest["flags"])


def test_they_are_small() -> None:
    assert sum(len(content) for content in files(FOLDER).values()) <= MAX_BYTES


def test_every_kind_is_there() -> None:
    cases = load_cases()
    assert len(cases) == 908
    kinds = Counter((case.method, case.storage or case.dtype) for case in cases)
    for method in ("thanos", "magnitude", "wanda", "sparsegpt"):
        for dtype in ("float64", "float32", "float16", "bfloat16"):
            assert kinds[method, dtype] >= 15
    expected = Counter(case.expected for case in cases)
    assert expected["refusal"] == len(list(refusals()))
    # What only a certificate can judge proves less: the vectors are for the others.
    assert expected["certificate"] < len(cases) / 10


def test_inputs_are_dyadic_with_few_bits() -> None:
    for case in load_cases():
        if case.expected != "refusal":
            bits = 40 if "close-scores" in case.flags else 24
            for matrix in (case.weight, case.gram):
                mantissas = np.frexp(np.asarray(matrix, dtype=float))[0] * 2**bits
                assert (mantissas == np.rint(mantissas)).all(), case.id


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest["cases"].pop(7),
        lambda manifest: manifest["cases"].append({**manifest["cases"][7], "id": "one-more"}),
        lambda manifest: manifest["cases"][7].update(manifest["cases"][8]),  # twice the same
        lambda manifest: manifest.update(format=2),
    ],
)
def test_a_manifest_that_is_not_whole_is_refused(
    change: Callable[[dict[str, Any]], object], tmp_path: Path
) -> None:
    manifest = json.loads((FOLDER / "manifest.json").read_text())
    change(manifest)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"\S"):
        load_cases(tmp_path)


def test_an_unknown_case_is_named() -> None:
    with pytest.raises(ValueError, match="'no-such-case'"):
        load_case("no-such-case")
