"""The residual mask is judged by the few weights near its threshold: the verdict is that of all."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import reference
from reference import Unstructured
from tests.certificate.wrong import BLOCK, DAMPING, GRAM, WEIGHT
from verification import Certificate, certify
from verification.certificate import contest, rebuild
from verification.certificate.case import Array, make_case
from verification.certificate.rebuild import at_every_block
from verification.certificate.rules import make_rules
from verification.certificate.scores import column_factors, scores
from verification.strategies import Problem, problems

PATTERN = Unstructured(0.5)


def all_contend(weights: Array, *_: object) -> contest.Near:
    rows, columns = np.indices(weights.shape).reshape(2, -1)
    return contest.Near(-np.inf, np.inf, 0, rows, columns)


def too_narrow(weights: Array, bounds: contest.Bounds, count: int) -> tuple[float, float]:
    """A bracket that holds the upper threshold, but not the lower one."""
    high = contest._all(weights, bounds, count).high
    return high, high


def right(metric: str) -> reference.Pruned:
    return reference.thanos(WEIGHT, GRAM, PATTERN, block_size=BLOCK, damping=DAMPING, metric=metric)


def flipped(metric: str) -> reference.Pruned:
    """Every third choice of a row is wrong: near the threshold and far from it, in every block."""
    result = right(metric)
    mask = result.mask.copy()
    mask[0, ::3] = ~mask[0, ::3]
    return replace(result, weight=np.where(mask, 0.0, result.weight), mask=mask)


def assert_same(one: Certificate, other: Certificate) -> None:
    for found, expected in zip(one.checks, other.checks, strict=True):
        # Sums of |Ŵ| |N| are taken in float32, in another order.
        assert found == replace(expected, value=found.value)
        assert found.value == pytest.approx(expected.value, rel=1e-5)


@pytest.mark.parametrize("with_mask", [True, False])
@pytest.mark.parametrize("storage", [None, "bfloat16"])
@pytest.mark.parametrize("metric", ["wanda", "obs"])
@pytest.mark.parametrize(
    ("damping", "pruned"), [(DAMPING, right), (2 * DAMPING, right), (DAMPING, flipped)]
)
def test_the_verdict_is_that_of_all_margins(
    with_mask: bool,
    storage: str | None,
    metric: str,
    damping: float,
    pruned: Callable[[str], reference.Pruned],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result = pruned(metric)
    weight = result.weight
    if storage:
        weight = torch.tensor(weight).bfloat16().double().numpy()

    def verdict() -> Certificate:
        return certify(
            WEIGHT,
            GRAM,
            weight,
            PATTERN,
            block_size=BLOCK,
            damping=damping,
            mask=result.mask if with_mask else None,
            storage=storage,
            metric=metric,
        )

    with monkeypatch.context() as patch:
        patch.setattr(contest, "_near", all_contend)
        of_all = verdict()
    assert of_all.passed == (damping == DAMPING and pruned is right)
    assert_same(verdict(), of_all)
    monkeypatch.setattr(contest, "SAMPLE", 64)  # as for a layer of many weights
    for gathered in (0, 2**40):  # each sum by itself, or out of one product
        monkeypatch.setattr(rebuild, "GATHERED", gathered)
        assert_same(verdict(), of_all)
    for missed in (lambda *_: (-2.0, -1.0), lambda *_: (1e9, 2e9), too_narrow):
        monkeypatch.setattr(contest, "_bracket", missed)
        assert_same(verdict(), of_all)


def test_few_contend(monkeypatch: pytest.MonkeyPatch) -> None:
    # Fewer than one in a hundred of all that are left, in blocks that something has moved.
    monkeypatch.setattr(contest, "SAMPLE", 64)
    case = make_case(WEIGHT, GRAM, right("wanda").weight, DAMPING, "float64", None)
    rules = make_rules("thanos", PATTERN, WEIGHT.shape, BLOCK, reference.patterns.Ablation())
    mask = right("wanda").mask
    for rebuilt in at_every_block(case, BLOCK):
        chosen = contest.contest(case, rules, rebuilt, mask, given=True)
        assert 1 <= chosen.values.size <= 0.01 * rebuilt.weights.size + 1


@given(problem=problems(kinds=("unstructured",)))
def test_bounds_enclose_every_margin(problem: Problem) -> None:
    pruned = reference.thanos(
        problem.weight,
        problem.gram,
        problem.pattern,
        block_size=problem.block_size,
        damping=problem.damping,
    )
    for arithmetic, storage in (("float64", None), ("float32", None), ("float32", "bfloat16")):
        case = make_case(
            problem.weight, problem.gram, pruned.weight, problem.damping, arithmetic, storage
        )
        ablation = reference.patterns.Ablation(metric="obs" if storage else "wanda")
        rules = make_rules("thanos", problem.pattern, case.W.shape, problem.block_size, ablation)
        for rebuilt in at_every_block(case, rules.block):
            j1, _ = rebuilt.block
            every = np.indices(rebuilt.weights.shape).reshape(2, -1)
            spread = rebuilt.spread(*every).reshape(rebuilt.weights.shape) if j1 else None
            S, margins = scores(case, rules, j1, rebuilt.weights, spread)
            bounds = contest._bounds(case, rebuilt, *column_factors(case, rules, j1))
            lower, upper = bounds.of(rebuilt.weights, bounds.x)
            assert (lower <= S - margins).all()
            assert (upper >= S + margins).all()


def test_too_many_are_told_where_they_are_too_many() -> None:
    mask = right("wanda").mask.copy()
    mask[:, : 3 * BLOCK] = True  # half of all are gone within the second block, to its last column
    pruned = np.where(mask, 0.0, right("wanda").weight)
    counts = certify(WEIGHT, GRAM, pruned, PATTERN, block_size=BLOCK, damping=DAMPING, mask=mask)[
        "counts"
    ]
    assert counts.where == "first in columns 32 to 47: off by 192"


@pytest.mark.parametrize("with_mask", [True, False])
@given(problem=problems(kinds=("unstructured",)), wrong=st.floats(0, 1), single=st.booleans())
def test_the_verdict_is_that_of_all_margins_on_any_layer(
    with_mask: bool, problem: Problem, wrong: float, single: bool
) -> None:
    """Ties, dead columns and half of the choices wrong included; in samples of four weights."""
    W, G, B, damping = problem.weight, problem.gram, problem.block_size, problem.damping
    result = reference.thanos(W, G, problem.pattern, block_size=B, damping=damping)
    flips = np.random.default_rng(0).random(W.shape) < wrong / 2
    mask = result.mask ^ flips
    judged = partial(
        certify,
        W,
        G,
        np.where(mask, 0.0, result.weight),
        problem.pattern,
        block_size=B,
        damping=damping,
        mask=mask if with_mask else None,
        arithmetic="float32" if single else "float64",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contest, "SAMPLE", 4)
        found = judged()
        patch.setattr(contest, "_near", all_contend)
        assert_same(found, judged())
