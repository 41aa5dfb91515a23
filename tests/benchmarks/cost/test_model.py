"""The fit finds what is there, and the check tells a wrong model from a right one."""

from typing import Any

import pytest

from tests.benchmarks.cost.made import known, results
from verification.benchmarks.performance.cost_model import (
    BOUNDS,
    Measurement,
    checked,
    errors,
    fit,
    gram_work,
    layer_work,
    measurements,
    memory_work,
    pass_work,
    predicted,
)


def test_work_is_counted() -> None:
    assert layer_work(3, 5) == {"c b²": 75, "b³": 125, "c b": 15, "b²": 25, "b": 5, "1": 1}
    assert gram_work(7, 5) == {"tokens b²": 175, "tokens b": 35}
    assert pass_work(7, 100, 5) == {"tokens weights": 700, "tokens² b": 245}
    assert memory_work(3, 5) == {"c b": 15, "b²": 25, "part": 15, "1": 1}
    # The solver takes 1024 rows of a block of 128 columns at one time.
    assert memory_work(4096, 4096)["part"] == memory_work(2048, 4096)["part"] == 1024 * 128


def test_a_whole_study_is_found_again() -> None:
    found = list(measurements(results(known())))
    seen = errors(found, fit(found))
    assert seen.keys() == BOUNDS.keys()
    for quantity in BOUNDS:
        assert seen[quantity]["count"] > 0
        assert seen[quantity]["worst"] < 0.1, quantity
        assert checked(seen, quantity)


def test_no_coefficient_is_negative() -> None:
    # Times that fall with the layer: free least squares would subtract something.
    found = [
        Measurement("pruning", "run", "", 1, False, layer_work(b, b), 1 / b)
        for b in (256, 512, 768, 1024, 2048, 4096)
    ]
    (coefficients,) = fit(found).values()
    assert min(coefficients.values()) >= 0


@pytest.mark.parametrize("factor", [0.5, 1.7])
def test_what_does_not_hold_on_other_sizes_is_not_checked(factor: float) -> None:
    found = list(measurements(results(known(), held_out_factor=factor)))
    seen = errors(found, fit(found))
    assert not checked(seen, "pruning")
    assert checked(seen, "memory")
    # Errors are of the prediction: below 0 where layers took longer than predicted.
    assert seen["pruning"]["largest"] == pytest.approx([100 * (1 / factor - 1)] * 2, abs=0.1)
    assert seen["pruning"]["size"] == "4096 x 4096"


def test_one_bad_size_is_enough_and_nan_is_bad() -> None:
    good: dict[str, Any] = {"pruning": {"median": 10.0, "worst": 20.0}}
    assert checked(good, "pruning")
    for name in ("median", "worst"):
        for bad in (90.0, float("nan")):
            assert not checked({"pruning": {**good["pruning"], name: bad}}, "pruning")
    assert not checked({}, "pruning")


def test_uncertified_times_are_not_counted() -> None:
    study = results(known())
    before = fit(measurements(study))
    spoiled = study["runs"][0]["layers"][0]
    spoiled.update(seconds=1e-9, passed=False)
    found = list(measurements(study))
    after = fit(found)
    assert after.keys() == before.keys()
    assert errors(found, after)["pruning"]["worst"] < 0.1
    spoiled["passed"] = True
    assert errors(found, fit(measurements(study)))["pruning"]["worst"] > 50


def test_other_block_sizes_are_not_fitted() -> None:
    study = results(known())
    before = len(list(measurements(study)))
    layers = len(study["runs"][0]["layers"])
    study["runs"][0]["run"]["block_size"] = 512
    assert len(list(measurements(study))) == before - 2 * layers


def test_what_was_not_measured_is_not_predicted() -> None:
    with pytest.raises(ValueError, match="got 'pruning: wanda 1:4'"):
        predicted(known(), "pruning", layer_work(1, 1), "wanda 1:4")
