"""What is measured: no time counts without its certificate."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.tiny import llama_config, random_model, save_checkpoint
from thanos_torch import Checks, Gram, Pruned
from thanos_torch.pruning.plan import LayerOptions
from verification.benchmarks.performance import measure, timing
from verification.benchmarks.performance.cases import (
    METHODS,
    PATTERNS,
    GramCell,
    LayerCell,
    ModelCell,
)


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SECONDS", 0.0)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method(method: str, pattern: str) -> None:
    refit = 10 if method == "thanos" else 0
    record = measure.measure(LayerCell(48, 64, method, pattern, False, refit_steps=refit))
    assert record["passed"]
    assert record["seconds"] > 0
    assert len(record["repeats"]) == timing.LEAST
    assert record["peak_memory_bytes"] > 4 * 48 * 64


def test_a_result_that_is_not_certified_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = LayerOptions.prune

    def spoiled(self: LayerOptions, weight: Any, gram: Any) -> tuple[Pruned, Pruned]:
        pruned, kept = honest(self, weight, gram)
        kept.weight[~kept.mask] *= 1.01
        return pruned, kept

    monkeypatch.setattr(LayerOptions, "prune", spoiled)
    assert not measure.measure(LayerCell(48, 64, "thanos", "2:4", False))["passed"]


def test_a_repeat_that_differs_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    honest, calls = LayerOptions.prune, iter(range(100))

    def drifting(self: LayerOptions, weight: Any, gram: Any) -> tuple[Pruned, Pruned]:
        pruned, kept = honest(self, weight, gram)
        if next(calls) == 2:
            kept.weight[0, 0] += 1.0
        return pruned, kept

    monkeypatch.setattr(LayerOptions, "prune", drifting)
    assert not measure.measure(LayerCell(48, 64, "thanos", "2:4", False))["passed"]


def test_a_wrong_gram_matrix_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measure.measure(GramCell(16, 32, False))["passed"]

    class Wrong(Gram):
        def matrix(self, checks: Checks | None = None) -> torch.Tensor:
            right: torch.Tensor = super().matrix(checks)
            return right * (1 + 1e-4)

    monkeypatch.setattr(measure, "Gram", Wrong)
    assert not measure.measure(GramCell(16, 32, False))["passed"]


def test_a_whole_model_is_scaled_and_certified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = save_checkpoint(random_model(llama_config()), tmp_path)
    monkeypatch.setattr(measure, "DEFAULT_MODEL", str(small))
    found = measure.measure_model(every=2, windows=4, length=32)  # two of three blocks
    assert (found["blocks"], found["pruned_blocks"], len(found["layers"])) == (3, 2, 14)
    assert found["pruning_of_all"] == pytest.approx(1.5 * found["seconds"]["pruning"])
    monkeypatch.setattr(measure, "measure_model", lambda every: found)
    record = measure.measure(ModelCell(every=2))
    assert record["passed"]
    assert record["seconds"]["pruning"] == found["pruning_of_all"]
    assert record["seconds"]["gram"] == pytest.approx(1.5 * found["seconds"]["gram"])


def test_products_are_timed_beside_a_layer_if_asked() -> None:
    cell, layer = LayerCell(16, 16, "thanos", "2:4"), timing.random_layer((16, 16), "independent")
    assert timing.time_layer(cell, layer, products=True).units > 0
    assert timing.time_layer(cell, layer).units == 0


def test_repeats_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SECONDS", 0.3)

    def repeats(each: float) -> int:
        return len(list(_until_enough(each)))

    assert (repeats(1e-6), repeats(0.05), repeats(1.0), repeats(9.0)) == (15, 6, 3, 2)


def _until_enough(each: float) -> Iterator[float]:
    totals: list[float] = []
    while not timing.enough(totals):
        totals.append(each)
        yield each


def test_two_slow_repeats_do_only_if_neither_was_held_up() -> None:
    assert timing.enough([3.0, 3.1])
    assert not timing.enough([4.65, 1.076])
    assert timing.enough([4.65, 1.076, 1.1])
