"""Where the time goes: the tables of stages by method, pattern and size."""

from typing import Any

import pytest

from tests.benchmarks.cost.made import known, results
from verification.benchmarks.pages.cost_stages import by_size
from verification.benchmarks.performance.cases import METHODS, PATTERNS

REFITTED = "thanos + refit 10"


@pytest.fixture(name="study")
def made() -> dict[str, Any]:
    return results(known())


def _tables(study: dict[str, Any]) -> dict[str, list[list[str]]]:
    """Rows of cells by pattern."""
    parts = "\n".join(by_size(study)).split("### ")[1:]
    return {
        part.split("\n")[0]: [
            line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| ")
        ][2:]
        for part in parts
    }


def _square(study: dict[str, Any], size: int, **options: Any) -> dict[str, Any]:
    asked = {"pattern": "2:4", "block_size": 128, "refit_steps": 0, **options}
    run = next(each for each in study["runs"] if each["run"] == asked)
    found: dict[str, Any] = next(layer for layer in run["layers"] if layer["shape"] == [size, size])
    return found


def test_every_method_and_pattern_has_its_stages_by_size(study: dict[str, Any]) -> None:
    tables = _tables(study)
    assert list(tables) == list(PATTERNS)
    for pattern, rows in tables.items():
        methods = (*METHODS, *([REFITTED] if pattern == "unstructured:0.5" else []))
        assert list(dict.fromkeys(row[0] for row in rows)) == list(methods)
        for method in methods:
            sizes = [row[1] for row in rows if row[0] == method]
            # The largest layers are in the plan for fewer methods.
            large = pattern == "unstructured:0.5" or method in ("sparsegpt", "thanos")
            expected = ["512 x 512", "1024 x 1024", "2048 x 2048", "4096 x 4096"]
            assert sizes == (expected if large else expected[:3])


def test_a_row_is_what_was_measured(study: dict[str, Any]) -> None:
    _square(study, 1024, method="sparsegpt").update(
        seconds=1.2344,
        stages={"prepare": 0.00052, "factor": 0.0099, "solve": 0.00996, "update": 1.0},
        certificate_seconds=0.0123,
        peak_memory_bytes=7.5 * 2**20,
        spread=0.25,
    )
    row = [
        "sparsegpt",
        "1024 x 1024",
        "1,234",
        "0.5",
        "9.9",
        "-",
        "10",
        "1,000",
        "-",
        "12",
        "7.5",
        "25%",
    ]
    assert row in _tables(study)["2:4"]


def test_what_failed_its_certificate_is_left_out(study: dict[str, Any]) -> None:
    _square(study, 1024, method="sparsegpt")["passed"] = False
    rows = _tables(study)["2:4"]
    assert [row[1] for row in rows if row[0] == "sparsegpt"] == [
        "512 x 512",
        "2048 x 2048",
        "4096 x 4096",
    ]


def test_other_block_sizes_have_no_rows(study: dict[str, Any]) -> None:
    assert "B = 512" not in "\n".join(by_size(study))


def test_one_size_is_no_table(study: dict[str, Any]) -> None:
    for each in study["runs"]:
        each["layers"] = [layer for layer in each["layers"] if layer["shape"] == [512, 512]]
    assert by_size(study) == []
