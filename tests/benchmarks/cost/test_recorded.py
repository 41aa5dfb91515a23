"""Recorded results: their conclusions are those of the code, and pages show their numbers."""

import json
import re
from typing import Any

import pytest

from tests.test_imports import ROOT
from verification.benchmarks.performance import cost

RESULTS = ROOT / "docs" / "results"


def recorded(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def test_conclusions_on_cost_follow_from_the_measurements() -> None:
    stored = recorded("cost/results")
    made = json.loads(json.dumps(cost.conclusions(stored)))
    # The fit goes through LAPACK, which rounds in another way on another machine.
    for name in ("unsteadiness", "ratios", "hours", "errors", "errors_of_thanos"):
        assert _numbers(made[name]) == pytest.approx(_numbers(stored[name]), rel=1e-5), name
    assert all(holds for _, holds, _ in cost.promises(stored))


def _numbers(content: Any) -> list[float]:
    if isinstance(content, dict):
        return [number for value in content.values() for number in _numbers(value)]
    if isinstance(content, list):
        return [number for value in content for number in _numbers(value)]
    return [content] if isinstance(content, int | float) else []


def test_the_page_on_solvers_shows_the_recorded_times() -> None:
    page = (RESULTS.parent / "solvers.md").read_text(encoding="utf-8")
    rows = recorded("solvers")["solvers"]
    for solver in dict.fromkeys(row["solver"] for row in rows):
        (line,) = (line for line in page.splitlines() if line.startswith(f"| {solver} |"))
        shown = [float(value) for value in re.findall(r"([\d.]+) ms", line)]
        measured = [1000 * row["seconds"] for row in rows if row["solver"] == solver]
        assert shown == pytest.approx(measured, abs=0.051)
