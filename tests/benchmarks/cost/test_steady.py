"""A machine that was slow for a while is noticed, and what it measured then is measured again."""

from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.cost.made import known, results, tiny
from verification.benchmarks.pages.cost_sections import _scaled as scaled_in_words
from verification.benchmarks.performance import cases as plan
from verification.benchmarks.performance import cost
from verification.benchmarks.performance.measure import measure
from verification.benchmarks.performance.steadiness import (
    TRIES,
    at_usual_speed,
    scales,
    slowed,
    unsteadiness,
)


def test_unsteadiness_is_of_the_worst_tenth() -> None:
    assert unsteadiness([1.0] * 20) == 0
    assert unsteadiness([1.0] * 19 + [50.0]) == 0  # one hiccup is none
    assert unsteadiness([1.0] * 15 + [2.0] * 5) == 1


def test_slow_is_against_the_median() -> None:
    assert slowed([1.0, 1.1, 0.5, 1.3, 1.0]) == [3]
    assert slowed([2.0] * 5) == []


def test_times_are_scaled_in_both_directions_and_the_page_says_so() -> None:
    study = results(known())
    cases = [layer for each in study["runs"] for layer in each["layers"]]
    cases += [*study["gram"], *study["pass"]]
    study["yardstick_seconds"] = [1.0] * len(cases)
    assert f"Of {len(cases)} cases 0 have less time for it, as" in scaled_in_words(study)
    for case, yardstick in zip(cases, (1.25, 1.1, 0.8), strict=False):
        case["yardstick_seconds"] = yardstick
    assert scaled_in_words(study).endswith(
        f"Of {len(cases)} cases 2 have less time for it, by 20% at most, as the machine was slower "
        "beside them, and 1 more, by 25% at most, as it was faster"
    )
    usual = at_usual_speed(study)
    told = [layer for each in usual["runs"] for layer in each["layers"]]
    told += [*usual["gram"], *usual["pass"]]
    ratios = [now["seconds"] / case["seconds"] for now, case in zip(told, cases, strict=True)]
    assert ratios == pytest.approx(scales(study))
    assert ratios[:4] == pytest.approx([0.8, 1 / 1.1, 1.25, 1.0])


def test_slow_cells_are_measured_again_and_the_steadier_record_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(plan.PROFILES, "quick", tiny)
    counts = dict.fromkeys(tiny(), 0)
    hopeless, mended = tiny()[3], tiny()[5]

    def shaken(cell: Any) -> dict[str, Any]:
        counts[cell] += 1
        slow = cell == hopeless or (cell == mended and counts[cell] == 1)
        return {
            **measure(cell),
            "yardstick_seconds": 2.0 + counts[cell] if slow else 1.0,
            "wall_seconds": 1.0,
            "number": counts[cell],
        }

    def stop(note: str, done: int, of: int) -> None:
        if note.startswith("again") and counts[hopeless] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(cost, "measure", shaken)
    with pytest.raises(KeyboardInterrupt):
        cost.run_cost(tmp_path / "cost", "quick", "test", stop)
    results = cost.run_cost(tmp_path / "cost", "quick", "test", lambda note, done, of: None)
    asked = {mended: 2, hopeless: TRIES}
    assert counts == {cell: asked.get(cell, 1) for cell in tiny()}
    assert sorted(results["tries"]) == [1] * (len(tiny()) - 2) + [2, TRIES]
    assert results["wall_seconds"] == len(tiny()) + 3
    layers = [layer for each in results["runs"] for layer in each["layers"]]
    kept = {layer["tries"]: layer for layer in layers if layer["tries"] > 1}
    assert kept[2]["number"] == 2
    assert kept[2]["yardstick_seconds"] == 1.0
    assert kept[TRIES]["number"] == 1  # the fastest of three slow ones
