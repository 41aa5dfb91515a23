"""`thanos bench speed`: its units, its limits, and the cliffs that it finds."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from reference.patterns import parse_pattern
from tests.test_imports import ROOT
from thanos_torch.pruning.plan import LayerOptions
from verification.benchmarks.pages.speed import page, verdicts
from verification.benchmarks.performance import speed, timing
from verification.benchmarks.performance.cases import LayerCell
from verification.benchmarks.performance.laws import Work, operations

RECORDED = json.loads((ROOT / "docs" / "results" / "speed" / "speed.json").read_text())


@pytest.fixture(autouse=True)
def no_profiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes long to start; `tests/benchmarks/cost/test_measure.py` holds what it measures."""
    monkeypatch.setattr(speed, "peak_memory", lambda run, device: (0, run()))


def test_the_cost_model_counts_the_recorded_operations() -> None:
    layers = [each for each in RECORDED["layers"] if each["block_size"] == 128]
    assert {each["method"] for each in layers} == {"thanos", "sparsegpt"}
    for each in layers:  # no ragged block: the mean of the steps has their sum
        steps = each["steps"][1]
        rows, columns = each["shape"]
        work = Work(rows, columns, each["block_size"], each["pattern"], steps, steps)
        assert operations(each["method"], work) == pytest.approx(each["operations"], rel=1e-12)


def test_a_whole_run_of_small_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    small = ((16, 16), (24, 16), (16, 24), (32, 32))
    for name, value in (
        ("SHAPES", small),
        ("BASE", (16, 16)),
        ("RAGGED", ((15, 17), (9, 13), (7, 11))),
    ):
        monkeypatch.setattr(speed, name, value)
    monkeypatch.setattr(speed, "SAME_LOSS", 0.2)  # the published procedure removes a weight more
    monkeypatch.setattr(speed, "ROWS", (8, 16, 24, 32))
    monkeypatch.setattr(speed, "COLUMNS", (8, 16, 32))
    monkeypatch.setattr(speed, "measure_model", lambda every: {**RECORDED["model"], "every": every})
    told: list[tuple[int, int]] = []
    results = speed.run_speed(True, "cpu", "test", lambda note, done, of: told.append((done, of)))
    # All these shapes have correlated inputs too; of the real ones the largest has not.
    assert len(told) == speed.STEPS + 2
    assert results.keys() == RECORDED.keys()
    assert results["layers"][0].keys() == RECORDED["layers"][0].keys()
    assert results["model"]["every"] == 5
    for name in ("growth", "model"):
        assert results[name].keys() - {"every"} == RECORDED[name].keys()
    assert [each["shares"].keys() for each in results["stages"]] == [
        each["shares"].keys() for each in RECORDED["stages"]
    ]
    assert all(sum(each["shares"].values()) == pytest.approx(1) for each in results["stages"])
    for each in results["stages"]:
        assert all(each["shares"][stage] > 0 for stage in timing.MAIN_STAGES)
    assert all(each["certified"] for each in results["layers"])
    assert results["growth"]["certified"]
    again = json.loads(json.dumps(results, allow_nan=False))
    assert "16 x 16" in page(again)
    assert {what: holds for what, holds, _ in verdicts(again)}["certificates"]


def test_a_layer_without_a_certificate_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = LayerOptions.prune

    def spoiled(self: LayerOptions, weight: Any, gram: Any) -> Any:
        pruned, kept = honest(self, weight, gram)
        kept.weight[~kept.mask] *= 1.01
        return pruned, kept

    cell = LayerCell(16, 16, "thanos", "2:4")
    assert speed.time_layer(cell, repeats=1).certified
    monkeypatch.setattr(LayerOptions, "prune", spoiled)
    assert not speed.time_layer(cell, repeats=1).certified


def test_a_published_procedure_that_does_something_else_is_no_yardstick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = timing.random_layer((128, 128), "independent")
    units = speed.time_published(1, made)
    assert units.unstructured > 0
    assert units.semi > 0
    monkeypatch.setattr(speed, "published_sparsegpt", lambda W, G, pattern: torch.zeros_like(W))
    with pytest.raises(RuntimeError, match="the published procedure loses"):
        speed.time_published(1, made)


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
    base = speed.time_layer(LayerCell(16, 16, "thanos", "2:4"), repeats=1)
    base = replace(base, seconds=1.0, operations=1.0, shape=speed.BASE)
    rows, columns = speed.BASE
    blocks = [(64.0, base), (128.0, base), (256.0, replace(base, seconds=2.5, operations=2.0))]
    half = replace(base, shape=(rows // 2, columns))
    assert speed.cliffs({"B": blocks, "ragged": [(0.0, half)]}) == []
    slow = [(0.0, replace(half, seconds=1.25))]
    assert speed.cliffs({"B": blocks, "ragged": slow}) == [f"{rows // 2} x {columns}: 2.5"]
    blocks[2] = (256.0, replace(base, seconds=2.5))
    assert speed.cliffs({"B": blocks, "ragged": []}) == ["B 128 to 256: 2.5"]
