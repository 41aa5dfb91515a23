"""The fit finds what is there, and the check tells a wrong model from a right one."""

from typing import Any

import pytest

from tests.benchmarks.cost.made import PEAK, THREADS, known, results
from thanos_torch.runtime.clock import FEW_COLUMNS
from verification.benchmarks.performance.cost_model import (
    BOUNDS,
    Steps,
    checked,
    comparisons,
    fit,
    fit_law,
    predicted_layer,
    summary,
)
from verification.benchmarks.performance.laws import (
    COUNTS,
    PRODUCTS,
    Work,
    certificate_law,
    trailing,
)

TERMS = ("b³", "c b²", "c b", "constant")
WORKS = [Work(c, b) for c in (256, 512, 2048) for b in (256, 768, 1024, 4096)]


def test_known_coefficients_are_found() -> None:
    truth = {"b³": 2e-11, "c b²": 5e-11, "c b": 3e-9, "constant": 1e-4}
    measured = [sum(truth[term] * COUNTS[term](work) for term in TERMS) for work in WORKS]
    found = fit_law(TERMS, WORKS, measured, {})
    # Seven digits: least squares loses the square of what counts of several powers of ten cost.
    assert found == pytest.approx(truth, rel=1e-7)


def test_no_coefficient_is_negative_and_no_product_faster_than_the_peak() -> None:
    # Times that fall with the layer: free least squares would take some of them back.
    measured = [1.0 / work.columns for work in WORKS]
    found = fit_law(TERMS, WORKS, measured, {"c b²": 1e-20})
    assert all(each > 0 for each in found.values())
    assert found["c b²"] == pytest.approx(1e-20)


def test_a_whole_study_is_found_again() -> None:
    study = results(known())
    errors = summary(comparisons(study, fit(study)))
    assert errors.keys() == BOUNDS.keys()
    for quantity in BOUNDS:
        assert errors[quantity]["held out"]["count"] > 0
        assert errors[quantity]["held out"]["worst"] < 0.03, quantity
        assert checked(errors, quantity)


@pytest.mark.parametrize("factor", [0.5, 1.7])
def test_what_does_not_hold_on_other_sizes_is_not_checked(factor: float) -> None:
    study = results(known(), held_out_factor=factor)
    errors = summary(comparisons(study, fit(study)))
    assert not checked(errors, "pruning")
    assert checked(errors, "certificate")


def test_one_bad_size_is_enough_and_nan_is_bad() -> None:
    good: dict[str, Any] = {"pruning": {"held out": {"median": 0.1, "worst": 0.2}}}
    assert checked(good, "pruning")
    for name in ("median", "worst"):
        for bad in (0.9, float("nan")):
            spoiled = {"pruning": {"held out": {**good["pruning"]["held out"], name: bad}}}
            assert not checked(spoiled, "pruning")
    assert not checked({"pruning": {"fitted": good["pruning"]["held out"]}}, "pruning")


def test_uncertified_times_are_not_counted() -> None:
    study = results(known())
    spoiled = next(each for each in study["runs"] if each["run"]["method"] == "thanos")["layers"][0]
    before = fit(study)
    spoiled.update(seconds=1e6, stages=dict.fromkeys(spoiled["stages"], 1e6), passed=False)
    after = fit(study)
    assert after.coefficients.keys() == before.coefficients.keys()
    assert max(each["error"] for each in comparisons(study, after)) < 0.03
    spoiled["passed"] = True
    assert min(each["error"] for each in comparisons(study, fit(study))) < -0.5


def test_products_are_not_faster_than_the_peak() -> None:
    study = results(known())
    for term in fit(study).coefficients.values():
        for name, operations in PRODUCTS.items():
            threads = THREADS if name.endswith("/ threads") else 1
            assert term.get(name, 1.0) >= operations * threads / PEAK


def test_no_certificate_is_faster_than_the_peak_of_the_threads_it_has() -> None:
    study = results(known())
    study["peak"] = [{"operations_per_second": 1.0}]  # slower than all that was measured
    name = certificate_law("thanos", "unstructured:0.5", 0)[0]
    found = fit(study).coefficients[name]["trailing / threads"]
    for columns, threads in ((FEW_COLUMNS - 1, 1), (FEW_COLUMNS, THREADS)):
        work = Work(rows=8, columns=columns, threads=THREADS)
        # In float64, of which a vector holds half as many as in float32.
        operations_a_second = trailing(work) / (found * COUNTS["trailing / threads"](work))
        assert operations_a_second <= 0.5 * threads / THREADS * (1 + 1e-12)


def test_measured_steps_take_the_place_of_the_law_and_the_least_only_raises_it() -> None:
    run = {"method": "thanos", "pattern": "2:4", "block_size": 128, "refit_steps": 0}
    model, shape = known(), (256, 512)

    def solve(**steps: Steps) -> float:
        return float(predicted_layer(model, run, shape, **steps)["stages"]["solve"])

    by_law = model.steps(512, 128)
    few, many = Steps(1.0, 2.0), Steps(100.0, 200.0)
    assert solve(taken=few) < solve() == solve(taken=by_law) == solve(least=few)
    assert solve(least=many) == solve(taken=many) > solve()
