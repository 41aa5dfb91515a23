"""Numbers that vary: an estimate with its interval, and when two of them differ.

Errors and perplexities are positive and vary by factors, so their logarithms are averaged and
Student's t gives the interval: it is honest for three seeds already. Timings have outliers, so
they get a median and an interval made of order statistics, which assumes no distribution.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

LEVEL = 0.95
Verdict = Literal["higher", "lower", "no difference", "no verdict"]


@dataclass(frozen=True)
class Estimate:
    """A value, where it is known to be, and from how many numbers.

    low, high  the interval that covers the true value with probability `level`; None where there
               are too few numbers for one
    """

    value: float
    low: float | None
    high: float | None
    count: int
    level: float = LEVEL

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def added_percent(ratio: float) -> float:
    """What a ratio adds to 1, in %."""
    return 100 * (ratio - 1)


def mean(values: ArrayLike, level: float = LEVEL) -> Estimate:
    """With Student's t interval; of one number without."""
    return _mean(_numbers("values", values), level)


def geometric_mean(values: ArrayLike, level: float = LEVEL) -> Estimate:
    """Of positive numbers, with Student's t interval of their logarithms."""
    return _exp(_mean(_logarithms("values", values), level))


def median(values: ArrayLike, level: float = LEVEL) -> Estimate:
    """With the narrowest interval of order statistics that reaches the level.

    The true median lies between the k-th smallest and the k-th largest of n numbers with
    probability 1 − 2 P(Binomial(n, ½) < k). Below 6 numbers no k reaches 95 %.
    """
    ordered = np.sort(_numbers("values", values))
    n = len(ordered)
    value = float(np.median(ordered))
    k = int(stats.binom.ppf((1 - level) / 2, n, 0.5))
    # ppf is the first count that reaches the tail, so P(fewer than k) stays below it.
    if k == 0:
        return Estimate(value, None, None, n, level)
    return Estimate(value, float(ordered[k - 1]), float(ordered[n - k]), n, level)


def paired_ratio(before: ArrayLike, after: ArrayLike, level: float = LEVEL) -> Estimate:
    """The geometric mean of after / before over pairs that share what moves both, as a draw."""
    first, second = _logarithms("before", before), _logarithms("after", after)
    if len(first) != len(second):
        raise ValueError(f"before and after must be pairs, got {len(first)} and {len(second)}")
    return _exp(_mean(second - first, level))


def independent_ratio(
    before: ArrayLike, after: ArrayLike, *others: ArrayLike, level: float = LEVEL, freedom: int = 1
) -> Estimate:
    """The ratio of geometric means of draws that have nothing to do with each other.

    others   more draws that vary in the same way, about a mean of their own: for the spread alone
    freedom  that an interval needs at least

    Student's t with a common variance: the draws of all sides are made in the same way.
    """
    first, second = _logarithms("before", before), _logarithms("after", after)
    groups = [first, second, *(_logarithms("others", each) for each in others)]
    shift = float(second.mean() - first.mean())
    count, found = len(first) + len(second), sum(len(group) - 1 for group in groups)
    if found < freedom:
        return _exp(Estimate(shift, None, None, count, level))
    error = pooled_deviation(groups) * math.sqrt(1 / len(first) + 1 / len(second))
    reach = error * t_factor(found, level)
    return _exp(Estimate(shift, shift - reach, shift + reach, count, level))


@dataclass(frozen=True)
class Spread:
    """A standard deviation that was measured, and from how many independent numbers."""

    deviation: float
    freedom: int


def perplexity_ratio(
    before: ArrayLike, after: ArrayLike, rounding: Spread | None = None, level: float = LEVEL
) -> Estimate:
    """Of two models on the same windows, which have the same number of scored tokens.

    before, after  (windows,) mean negative log-likelihood of each window's tokens, in nats, in the
                   order of the text
    rounding       of the ratio's logarithm, by rounding alone

    A window that is hard for one model is hard for the other: their difference varies far less
    than either, and the ratio of perplexities is exp of its mean. Neighbours in a text are alike,
    so that n windows are not n independent numbers: Student's t is of the means of stretches of
    √n windows each ("batch means").
    """
    first, second = _numbers("before", before), _numbers("after", after)
    if len(first) != len(second):
        raise ValueError(f"before and after must be pairs, got {len(first)} and {len(second)}")
    added = second - first
    count, value = len(added), float(added.mean())
    if count < 2:
        return _exp(Estimate(value, None, None, count, level))
    stretches = np.array_split(added, count // math.isqrt(count))
    means = np.array([stretch.mean() for stretch in stretches])
    spreads = [Spread(pooled_deviation([means]) / math.sqrt(len(means)), len(means) - 1)]
    reach = _reach([*spreads, rounding] if rounding else spreads, level)
    return _exp(Estimate(value, value - reach, value + reach, count, level))


def _reach(spreads: Sequence[Spread], level: float) -> float:
    """Half an interval of a sum of independent errors, with Satterthwaite's degrees of freedom."""
    variances = np.array([each.deviation**2 for each in spreads])
    total = float(variances.sum())
    if total == 0:
        return 0.0
    freedom = total**2 / float((variances**2 / [each.freedom for each in spreads]).sum())
    return math.sqrt(total) * t_factor(freedom, level)


def in_words(verdict: Verdict) -> str:
    """A verdict for a page; without a difference none was shown, which is not the same as none."""
    return verdict if verdict in ("lower", "higher") else "not shown to differ"


def difference(ratio: Estimate, tolerance: float = 0.0, deterministic: bool = False) -> Verdict:
    """Whether a ratio differs from 1: its whole interval lies beyond 1 ± tolerance, in logarithms.

    deterministic  both numbers are from the same draw by code that gives the same answer again up
                   to the tolerance: then one pair is enough. Otherwise one pair is no verdict.
    """
    low, high = ratio.low, ratio.high
    if low is None or high is None:
        if not deterministic:
            return "no verdict"
        low = high = ratio.value
    return _side(math.log(low), math.log(high), tolerance)


def gain(change: Estimate) -> Verdict:
    """Whether what is added differs from 0: the whole interval lies on one side of it."""
    if change.low is None or change.high is None:
        return "no verdict"
    return _side(change.low, change.high, 0.0)


def _side(low: float, high: float, tolerance: float) -> Verdict:
    if low > tolerance:
        return "higher"
    if high < -tolerance:
        return "lower"
    return "no difference"


def pooled_deviation(groups: Sequence[NDArray[np.float64]]) -> float:
    """The standard deviation within groups that have means of their own."""
    freedom = sum(len(group) - 1 for group in groups)
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
    return math.sqrt(squares / freedom)


def t_factor(freedom: float, level: float) -> float:
    """How many standard errors an interval of this level reaches to either side."""
    return float(stats.t.ppf((1 + level) / 2, freedom))


def _mean(values: NDArray[np.float64], level: float) -> Estimate:
    """Student's t interval of a mean."""
    n, value = len(values), float(values.mean())
    if n < 2:
        return Estimate(value, None, None, n, level)
    reach = pooled_deviation([values]) / math.sqrt(n) * t_factor(n - 1, level)
    return Estimate(value, value - reach, value + reach, n, level)


def _exp(estimate: Estimate) -> Estimate:
    """From logarithms back to factors."""
    value, low, high = (
        None if end is None else _factor(end)
        for end in (estimate.value, estimate.low, estimate.high)
    )
    assert value is not None
    return Estimate(value, low, high, estimate.count, estimate.level)


def _factor(logarithm: float) -> float:
    """Exp, without the overflow that two numbers of very different size would bring."""
    return math.exp(min(max(logarithm, -700.0), 700.0))


def _logarithms(name: str, values: ArrayLike) -> NDArray[np.float64]:
    numbers = _numbers(name, values)
    if not (numbers > 0).all():
        raise ValueError(f"{name} must be positive, got {numbers.min()}")
    return np.log(numbers)


def _numbers(name: str, values: ArrayLike) -> NDArray[np.float64]:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or len(numbers) == 0:
        raise ValueError(f"{name} must be a list of numbers, got shape {numbers.shape}")
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name} must be finite, got {numbers[~np.isfinite(numbers)][0]}")
    return numbers
