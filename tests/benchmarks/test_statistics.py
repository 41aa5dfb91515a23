"""Intervals cover what they promise, and comparisons are the same in both directions."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from verification.benchmarks.statistics import (
    Estimate,
    Spread,
    difference,
    gain,
    geometric_mean,
    independent_ratio,
    median,
    paired_ratio,
    perplexity_ratio,
)

Array = NDArray[np.float64]
TRIALS = 1000
# Four standard deviations of the share of TRIALS that a 95 % interval covers.
MARGIN = 4 * math.sqrt(0.95 * 0.05 / TRIALS)

positive = st.floats(1e-6, 1e6)
pairs = st.lists(st.tuples(positive, positive), min_size=1, max_size=8)
SWAPPED = {"higher": "lower", "lower": "higher"}


def coverage(make: Callable[[np.random.Generator], Estimate], truth: float) -> float:
    """The share of simulated experiments whose interval holds the truth."""
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(TRIALS):
        found = make(random)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= truth <= found.high
    return hits / TRIALS


def lognormal(random: np.random.Generator, count: int, mean: float, spread: float) -> Array:
    values: Array = np.exp(random.normal(mean, spread, count))
    return values


@pytest.mark.parametrize("count", [3, pytest.param(8, marks=pytest.mark.long)])
def test_intervals_of_students_t_cover_95_percent(count: int) -> None:
    def mean(random: np.random.Generator) -> Estimate:
        return geometric_mean(lognormal(random, count, 1.0, 0.3))

    def pairs(random: np.random.Generator) -> Estimate:
        shared = lognormal(random, count, 0.0, 5.0)  # what moves both, as a draw does
        return paired_ratio(shared, shared * lognormal(random, count, 0.2, 0.1))

    def draws(random: np.random.Generator) -> Estimate:
        before, after = lognormal(random, count, 0.0, 0.1), lognormal(random, 4, 0.2, 0.1)
        return independent_ratio(before, after)

    def recorded(random: np.random.Generator) -> Estimate:
        """One draw a side, and others elsewhere, which tell how much draws vary."""
        before, after = lognormal(random, 1, 0.0, 0.1), lognormal(random, 1, 0.2, 0.1)
        return independent_ratio(before, after, lognormal(random, count, 7.0, 0.1))

    truths = (math.exp(1.0), *[math.exp(0.2)] * 3)
    for make, truth in zip((mean, pairs, draws, recorded), truths, strict=True):
        assert abs(coverage(make, truth) - 0.95) < MARGIN, make.__name__


def like_their_neighbours(random: np.random.Generator, count: int, alike: float) -> Array:
    """Numbers of mean 0 and deviation 1, each correlated with the one before."""
    found = random.normal(0, 1, count)
    for place in range(1, count):
        found[place] = alike * found[place - 1] + math.sqrt(1 - alike**2) * found[place]
    return found


@pytest.mark.parametrize(
    ("count", "alike"),
    [(3, 0.0), (16, 0.0), pytest.param(256, 0.1, marks=pytest.mark.long), (297, 0.4)],
)
def test_intervals_over_windows_cover_95_percent_also_where_neighbours_are_alike(
    count: int, alike: float
) -> None:
    def windows(random: np.random.Generator) -> Estimate:
        hard = random.normal(3.0, 1.0, count)
        added = 0.2 + 0.05 * like_their_neighbours(random, count, alike)
        return perplexity_ratio(hard, hard + added)

    assert abs(coverage(windows, math.exp(0.2)) - 0.95) < MARGIN


@pytest.mark.long
def test_windows_that_are_taken_as_independent_cover_less() -> None:
    """Why the test before would fail without stretches."""

    def windows(random: np.random.Generator) -> Estimate:
        return geometric_mean(np.exp(0.2 + 0.05 * like_their_neighbours(random, 297, 0.4)))

    assert coverage(windows, math.exp(0.2)) < 0.85


@pytest.mark.parametrize("share", [0.1, 1.0, 10.0])
def test_rounding_widens_the_interval_as_much_as_it_should(share: float) -> None:
    """share: of rounding, whose deviation is known from 5 numbers, in what windows vary by."""
    of_a_mean = 0.05 / math.sqrt(16)

    def windows(random: np.random.Generator) -> Estimate:
        moved = share * of_a_mean * random.normal(0, 1, 6)
        known = Spread(math.sqrt(float(np.mean(moved[1:] ** 2))), 5)
        added = 0.2 + moved[0] + random.normal(0, 0.05, 16)
        return perplexity_ratio(np.zeros(16), added, known)

    # Satterthwaite's degrees of freedom are an approximation, at worst where both are alike.
    assert abs(coverage(windows, math.exp(0.2)) - 0.95) < MARGIN


@pytest.mark.parametrize("count", [6, 9, 20])
def test_the_interval_of_the_median_covers_what_order_statistics_do(count: int) -> None:
    def skewed(random: np.random.Generator) -> Estimate:
        return median(random.exponential(1.0, count))

    # Counts are whole numbers, so that it covers a little more than 95 %: exactly this.
    exact = {6: 1 - 2 / 2**6, 9: 1 - 20 / 2**9, 20: 1 - 2 * 21700 / 2**20}[count]
    assert abs(coverage(skewed, math.log(2)) - exact) < MARGIN


def test_few_numbers_have_no_interval_of_the_median() -> None:
    assert median([3.0, 1.0, 2.0, 5.0, 4.0]).low is None
    assert median([3.0, 1.0, 2.0, 5.0, 4.0]).value == 3.0
    assert median([3.0, 1.0, 2.0, 5.0, 4.0, 6.0]).low == 1.0


@given(pairs)
def test_comparisons_are_antisymmetric(both: list[tuple[float, float]]) -> None:
    before, after = [a for a, _ in both], [b for _, b in both]
    logs = np.log(before), np.log(after)
    for ratio, first, second in (
        (paired_ratio, before, after),
        (independent_ratio, before, after),
        (perplexity_ratio, logs[0], logs[1]),
    ):
        there, back = ratio(first, second), ratio(second, first)
        assert there.value * back.value == pytest.approx(1, rel=1e-9)
        if there.low is not None and back.high is not None:
            # Logarithms are up to 14 in size and rounded; intervals reach 13 times their spread.
            assert math.log(there.low) == pytest.approx(-math.log(back.high), abs=1e-9)
        verdict = difference(there)
        assert difference(back) == SWAPPED.get(verdict, verdict)


@given(st.lists(positive, min_size=1, max_size=8), st.floats(1e-3, 1e3))
def test_units_do_not_matter(values: list[float], unit: float) -> None:
    before, after = np.array(values), np.array(values[::-1])
    ratio = paired_ratio(before * unit, after * unit).value
    assert ratio == pytest.approx(paired_ratio(before, after).value, rel=1e-9)
    mean = geometric_mean(before * unit).value
    assert mean == pytest.approx(unit * geometric_mean(before).value, rel=1e-9)


def test_one_pair_has_no_verdict() -> None:
    assert difference(paired_ratio([1.0], [1.02])) == "no verdict"
    assert independent_ratio([1.0, 1.01], [1.02]).low is None


def test_a_difference_needs_its_whole_interval_on_one_side() -> None:
    assert difference(Estimate(1.02, 1.001, 1.04, 5)) == "higher"
    assert difference(Estimate(1.02, 0.999, 1.04, 5)) == "no difference"
    assert difference(Estimate(0.9, 0.8, 0.99, 5)) == "lower"
    assert gain(Estimate(0.5, 0.1, 0.9, 5)) == "higher"
    assert gain(Estimate(0.5, -0.1, 1.1, 5)) == "no difference"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: geometric_mean([1.0, 0.0]), "values must be positive, got 0.0"),
        (lambda: geometric_mean([]), "values must be a list of numbers, got shape"),
        (lambda: median([1.0, math.nan]), "values must be finite, got nan"),
        (lambda: paired_ratio([1.0], [1.0, 2.0]), "before and after must be pairs, got 1 and 2"),
        (lambda: perplexity_ratio([1.0], [1.0, 2.0]), "before and after must be pairs"),
    ],
)
def test_refusals(call: Callable[[], Estimate], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
