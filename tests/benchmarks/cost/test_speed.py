"""`thanos bench speed`: its units, its limits, and the cliffs that it finds."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from reference.patterns import parse_pattern
from tests.test_imports import ROOT
from thanos_torch.cli.app import app
from verification.benchmarks import commands
from verification.benchmarks.pages.cost import SPEED, speed_rows
from verification.benchmarks.pages.studies import Results
from verification.benchmarks.performance import speed, timing
from verification.benchmarks.performance.cases import LayerCell
from verification.benchmarks.results import write_results

RECORDED = json.loads((ROOT / "docs" / "results" / "speed" / "speed.json").read_text())


@pytest.fixture(autouse=True)
def no_profiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes long to start; `tests/benchmarks/cost/test_measure.py` holds what it measures."""
    monkeypatch.setattr(timing, "peak_memory", lambda run, device: (0, run()))


def test_a_whole_run_of_small_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("SHAPES", ((16, 16), (24, 16), (16, 24), (32, 32))),
        ("BASE", (16, 16)),
        ("RAGGED", ((15, 17), (9, 13), (7, 11))),
        ("SAME_LOSS", 0.2),  # the published procedure removes a weight more
        ("measure_model", lambda every: {**RECORDED["model"], "every": every}),
    ):
        monkeypatch.setattr(speed, name, value)
    monkeypatch.setattr(timing, "SECONDS", 0.0)
    told: list[tuple[int, int]] = []
    results = speed.run_speed(True, "test", lambda note, done, of: told.append((done, of)))
    assert told == [(number, len(told)) for number in range(len(told))]
    # All these shapes have correlated inputs too; of the real ones the largest has not.
    assert len(told) == 4 * 9 + 11 + 1
    assert results["model"]["every"] == 5
    assert results.keys() <= RECORDED.keys()
    assert results["layers"][0].keys() <= RECORDED["layers"][0].keys()
    assert all(each["certified"] for each in results["layers"])
    write_results(tmp_path / "speed.json", results)
    page = SPEED.bare(Results(tmp_path), tmp_path)
    assert "| 16 × 16 | 2:4, correlated inputs |" in page
    assert (tmp_path / "speed.png").stat().st_size > 1000
    assert {what: holds for what, holds, _ in speed.promises(results)}["certificates"]


@pytest.mark.parametrize(
    ("promise", "spoil"),
    [
        ("time", lambda results: results["layers"][0].update(units=1e3)),
        ("memory", lambda results: results["layers"][0].update(memory=1e12)),
        ("no cliffs", lambda results: results["growth"].update(cliffs=["B 8 to 16: 3.0"])),
        ("real model", lambda results: results["model"].update(share=0.3)),
        ("certificates", lambda results: results["layers"][0].update(certified=False)),
        ("certificates", lambda results: results["growth"].update(certified=False)),
        ("certificates", lambda results: results["model"].update(certified=False)),
    ],
)
def test_the_record_keeps_every_promise_and_each_can_fail(promise: str, spoil: Any) -> None:
    results = json.loads(json.dumps(RECORDED))
    assert all(holds for _, holds, _ in speed.promises(results))
    assert len(results["model"]["layers"]) == 210
    spoil(results)
    assert [what for what, holds, _ in speed.promises(results) if not holds] == [promise]


@pytest.mark.parametrize(("share", "status"), [(0.2, 0), (0.3, 1)])
def test_the_command_fails_for_a_broken_promise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, status: int
) -> None:
    results = {**RECORDED, "model": {**RECORDED["model"], "share": share}}
    monkeypatch.setattr(speed, "run_speed", lambda *arguments: results)
    monkeypatch.setattr(commands, "load_model", lambda name: None)
    said = CliRunner().invoke(app, ["bench", "speed", "--out", str(tmp_path)])
    assert said.exit_code == status, said.output
    assert "real model: pruning takes" in said.output
    assert {each.name for each in tmp_path.iterdir()} == {"speed.json", "speed.md", "speed.png"}


def test_no_time_is_shown_without_a_certificate() -> None:
    results = json.loads(json.dumps(RECORDED))
    results["layers"][0]["certified"] = False
    first, second, *_ = speed_rows(results)
    assert first[3:6] == ["not certified"] * 3
    assert second[3:6] != first[3:6]


def test_a_published_procedure_that_does_something_else_is_no_yardstick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = timing.random_layer((128, 128), "independent")
    units = speed.time_published(made)
    assert units.unstructured > 0
    assert units.semi > 0
    monkeypatch.setattr(speed, "published_sparsegpt", lambda W, G, pattern: torch.zeros_like(W))
    with pytest.raises(RuntimeError, match="the published procedure loses"):
        speed.time_published(made)


@pytest.mark.parametrize(
    ("method", "pattern", "limit"),
    [
        ("sparsegpt", "unstructured:0.5", 10.0),
        ("sparsegpt", "2:4", 20.0),
        ("thanos", "unstructured:0.5", 6.0),
        ("thanos", "4:8", 16.0),
        ("thanos", "structured:0.3", 6.0),
    ],
)
def test_limits_are_shares_of_the_published_procedure(
    method: str, pattern: str, limit: float
) -> None:
    units = speed.PublishedUnits(unstructured=10.0, semi=20.0)
    assert units.limit(method, parse_pattern(pattern)) == pytest.approx(limit)


def test_cliffs() -> None:
    one = timing.LayerTiming([1.0], 0.0, 0, [4], "float32", 0, True)
    rows, columns = speed.BASE
    B64, B128, B256 = (
        LayerCell(*speed.BASE, "thanos", "2:4", block_size=B) for B in (64, 128, 256)
    )
    half = LayerCell(rows // 2, columns, "thanos", "2:4")
    # A block of 256 columns has 1.3 times the operations of two blocks of 128.
    level = {B64: one, B128: one, B256: replace(one, repeats=[2.5]), half: one}
    assert speed.cliffs(level) == []
    assert speed.cliffs({**level, half: replace(one, repeats=[1.25])}) == ["512 x 1024: 2.5"]
    assert speed.cliffs({**level, B64: replace(one, repeats=[2.5])}) == ["B 64 to 128: 2.5"]


def test_operations_of_the_record_are_counted() -> None:
    recorded = RECORDED["layers"][0]
    rows, columns = recorded["shape"]
    cell = LayerCell(rows, columns, "thanos", recorded["pattern"])
    assert speed.operations(cell, [recorded["steps"][1]]) == pytest.approx(recorded["operations"])
