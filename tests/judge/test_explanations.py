"""Explanations are true or absent, and those of a run are consistent. No name beats a wrong one."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.judge.test_wrong import ANOTHER, LARGER, SMALL, Size, function, verdicts
from tests.judge.wrong import WRONG, Wrong
from tests.judge.wrong.right import Right
from tests.judge.wrong.unlisted import UNLISTED
from verification.conformance import load_cases
from verification.conformance.callables import PythonFunction
from verification.conformance.storage import stored
from verification.conformance.text import report_text
from verification.conformance.verify import Report, explanations, verify

FURTHER = (55, 16, 64, 16)


# Layers that cannot tell these bugs from listed mistakes are among the vectors.
MISTAKEN = (
    "counts in each row",
    "groups of rows",
    "dead columns stay",
    "norms by sums of |G|",
    "columns by their median score",
    "rows spared by their largest weight",
)
EVERYTHING: dict[str, Any] = {"dtypes": ["float64", "float32"], "storage": ["float16", "bfloat16"]}
MOST_SECONDS = 90  # of one core, for a run in which everything fails: three times what it takes


def _calls() -> Iterator[Any]:
    for wrong, true in UNLISTED:
        for size in (SMALL, LARGER, ANOTHER, FURTHER):
            short = size == SMALL and wrong.bug in MISTAKEN[:4]
            marks = () if short else pytest.mark.long
            yield pytest.param(wrong, true, size, marks=marks, id=f"{wrong.bug}-{size[2]}")


@pytest.mark.parametrize(("wrong", "true", "size"), _calls())
def test_an_unlisted_mistake_gets_no_wrong_name(wrong: Wrong, true: set[str], size: Size) -> None:
    failed = [verdict for verdict in verdicts(wrong, size) if verdict.failures]
    assert failed or size != SMALL
    for verdict in failed:
        found = {x.key for x in explanations(verdict, function(wrong).capabilities)}
        assert found <= true, verdict.case.pattern


def run_of(kind: Callable[..., Any], only: str = "", **declared: Any) -> Report:
    """The report on an implementation of Thanos, over the vectors with a text in their id."""

    def prune(weight: Any, gram: Any, pattern: str, block_size: int, damping: float,
              storage: str = "") -> Any:  # fmt: skip
        given = weight.astype(np.float32) if storage else weight
        pruned, *rest = kind(given, gram, pattern, block_size, damping)
        return (stored(pruned, storage) if storage else pruned), *rest

    for key, value in declared.items():
        setattr(prune, key, value)
    cases = [case for case in load_cases() if case.id.startswith("thanos") and only in case.id]
    return verify(PythonFunction(prune, "thanos", "mine:prune"), cases, seed=0)


def wrong(bug: str) -> Callable[..., Any]:
    found = [w for w in (*WRONG, *(one for one, _ in UNLISTED)) if w.bug == bug]
    return found[0].run


def right(*call: Any) -> tuple[Any, Any]:
    return Right(*call).run("thanos")


def nan_losses(*call: Any) -> tuple[Any, ...]:
    weight, mask = right(*call)
    blocks = 1 if call[2].startswith("structured") else -(-weight.shape[1] // call[3])
    return weight, mask, np.full(blocks, np.nan)


def names(report: Report) -> list[str]:
    return [one.example.key for one in report.ranked]


@pytest.mark.parametrize(
    ("bug", "only", "name"),
    [
        ("rows spared by W H Wᵀ", "outliers", "outlier-rows-with-damping"),
        ("lower triangle of G only", "asymmetric", "gram-not-symmetrised"),
        ("last block shifted", "13", "last-block-shifted"),
    ],
)
def test_the_name_of_a_run(bug: str, only: str, name: str) -> None:
    report = run_of(wrong(bug), only)
    assert names(report) == [name]
    assert len(report.ranked[0].failures) == len(report.failures)


def test_right_weights_with_wrong_losses_say_nothing_of_masks() -> None:
    report = run_of(nan_losses, "float64-0")
    assert names(report) == ["losses-not-finite"]
    assert len(report.ranked[0].failures) == len(report.failures) > 10
    assert "weights and mask are right" in report_text(report, function(WRONG[0]).capabilities)


def test_an_explanation_of_a_few_failures_by_chance_is_left_out() -> None:
    """Some layers cannot tell these mistakes from listed ones; other layers can."""
    for bug, only in (("norms by sums of |G|", "float64-0"), ("dead columns stay", "03")):
        report = run_of(wrong(bug), only)
        assert report.failures
        assert names(report) == []
        text = report_text(report, function(WRONG[0]).capabilities)
        total = len(report.failures)
        assert f"Failures that are not named: {total} of the {total}" in text


def test_every_check_is_shown_before_one_is_repeated() -> None:
    """Two mistakes at once: masks of some cases, zeros of others."""

    def twice(weight: Any, gram: Any, pattern: str, *rest: Any) -> Any:
        pruned, mask = right(weight, gram, pattern, *rest)
        if "outliers" in pattern:
            return pruned + 1e-3 * mask * (np.arange(len(mask)) % 2)[:, None], mask
        return pruned * (1 + 1e-3 * ~mask), mask

    report = run_of(twice, "float64-0")
    text = report_text(report, function(WRONG[0]).capabilities)
    for check in {check.name for f in report.failures for check in f.verdict.failures}:
        assert f"FAILED {check}" in text
    assert text.count("to see it again") <= 6


@pytest.mark.long
@pytest.mark.parametrize("bug", MISTAKEN)
def test_a_run_of_an_unlisted_mistake_gets_no_name(bug: str) -> None:
    report = run_of(wrong(bug), **EVERYTHING)
    assert report.failures
    assert names(report) == []


@pytest.mark.long
def test_a_run_in_which_everything_fails_is_explained_in_bounded_time() -> None:
    started = time.process_time()
    report = run_of(wrong("λ with γ = 0.1 always"), **EVERYTHING)
    assert time.process_time() - started < MOST_SECONDS
    assert len(report.failures) > 150
    assert names(report) == ["damping-off"]
