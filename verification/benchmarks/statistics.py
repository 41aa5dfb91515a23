"""Estimates with confidence intervals, and the rule that decides whether two numbers differ.

Errors and perplexities are positive and vary by factors. Their logarithms are averaged, with
Student's t for the interval, which is valid from two values on. Timings have outliers: they get a
median, and an interval made of order statistics, which assumes no distribution.
"""

import math
import warnings
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
    """A value and its confidence interval.

    low, high  ends of the interval that covers the true value with probability `level`; None if
               there are too few numbers for an interval
    count      how many numbers the estimate is made from
    """

    value: float
    low: float | None
    high: float | None
    count: int
    level: float = LEVEL

    def as_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return asdict(self)


def added_percent(ratio: float) -> float:
    """A ratio as a relative change in %: 1.02 is +2."""
    return 100 * (ratio - 1)


def mean(values: ArrayLike, level: float = LEVEL) -> Estimate:
    """The mean with Student's t interval; a single number has no interval."""
    return _mean(_numbers("values", values), level)


def geometric_mean(values: ArrayLike, level: float = LEVEL) -> Estimate:
    """The geometric mean of positive numbers; Student's t interval of their logarithms."""
    return _exp(_mean(_logarithms("values", values), level))


def median(values: ArrayLike, level: float = LEVEL) -> Estimate:
    """The median with the narrowest interval of order statistics that reaches the level.

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
    """The geometric mean of after / before over pairs, as two runs on one calibration draw.

    Raises ValueError if the lists differ in length, or hold a number that is not positive.
    """
    first, second = _logarithms("before", before), _logarithms("after", after)
    return _exp(_mean(_added(first, second), level))


def independent_ratio(
    before: ArrayLike, after: ArrayLike, *others: ArrayLike, level: float = LEVEL
) -> Estimate:
    """The ratio after / before of the geometric means of two independent samples.

    others  further samples with means of their own; they only add to the estimate of the variance

    Student's t with one variance for all samples (`scipy.stats.ttest_ind` takes two samples only).
    A single degree of freedom gives no interval, as that would be too wide to be of use.
    """
    first, second = _logarithms("before", before), _logarithms("after", after)
    groups = [first, second, *(_logarithms("others", each) for each in others)]
    shift = float(second.mean() - first.mean())
    count, found = len(first) + len(second), sum(len(group) - 1 for group in groups)
    if found < 2:
        return _exp(Estimate(shift, None, None, count, level))
    error = pooled_deviation(groups) * math.sqrt(1 / len(first) + 1 / len(second))
    reach = error * t_factor(found, level)
    return _exp(Estimate(shift, shift - reach, shift + reach, count, level))


@dataclass(frozen=True)
class Spread:
    """A measured standard deviation, and its degrees of freedom."""

    deviation: float
    freedom: int


def perplexity_ratio(
    before: ArrayLike, after: ArrayLike, rounding: Spread | None = None, level: float = LEVEL
) -> Estimate:
    """The ratio of two models' perplexities on the same windows of equally many scored tokens.

    before, after  (windows,) mean negative log-likelihood of each window's tokens, in nats, in the
                   order of the text
    rounding       spread of the ratio's logarithm that rounding alone causes

    A window that is hard for one model is hard for the other, so their difference varies far less
    than either. The ratio of perplexities is exp of its mean. Neighbouring windows of a text are
    alike and not independent. Student's t is therefore taken over the means of stretches of √n
    windows each ("batch means").
    """
    added = _added(_numbers("before", before), _numbers("after", after))
    count, value = len(added), float(added.mean())
    if count < 2:
        return _exp(Estimate(value, None, None, count, level))
    stretches = np.array_split(added, count // math.isqrt(count))
    means = np.array([stretch.mean() for stretch in stretches])
    spreads = [Spread(pooled_deviation([means]) / math.sqrt(len(means)), len(means) - 1)]
    reach = _reach([*spreads, rounding] if rounding else spreads, level)
    return _exp(Estimate(value, value - reach, value + reach, count, level))


def _reach(spreads: Sequence[Spread], level: float) -> float:
    """Half the width of the interval of a sum of independent errors (Welch-Satterthwaite)."""
    variances = np.array([each.deviation**2 for each in spreads])
    total = float(variances.sum())
    if total == 0:
        return 0.0
    freedom = total**2 / float((variances**2 / [each.freedom for each in spreads]).sum())
    return math.sqrt(total) * t_factor(freedom, level)


def in_words(verdict: Verdict) -> str:
    """A verdict for a page. "No difference" reads "not shown to differ": absence is not proved."""
    return verdict if verdict in ("lower", "higher") else "not shown to differ"


def difference(ratio: Estimate, equal: float = 1.0) -> Verdict:
    """Whether a value differs from `equal`: its whole interval lies on one side of it."""
    if ratio.low is None or ratio.high is None:
        return "no verdict"
    if ratio.low > equal:
        return "higher"
    return "lower" if ratio.high < equal else "no difference"


def gain(change: Estimate) -> Verdict:
    """Whether a change differs from 0: its whole interval lies on one side of 0."""
    return difference(change, equal=0.0)


def pooled_deviation(groups: Sequence[NDArray[np.float64]]) -> float:
    """The common standard deviation of groups, each about its own mean."""
    freedom = sum(len(group) - 1 for group in groups)
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
    return math.sqrt(squares / freedom)


def t_factor(freedom: float, level: float) -> float:
    """Half the width of Student's t interval of this level, in standard errors."""
    return float(stats.t.ppf((1 + level) / 2, freedom))


def _mean(values: NDArray[np.float64], level: float) -> Estimate:
    """The mean with SciPy's Student's t interval."""
    n, value = len(values), float(values.mean())
    if n < 2:
        return Estimate(value, None, None, n, level)
    with warnings.catch_warnings():  # equal numbers: the interval is exact, the p-value is not
        warnings.simplefilter("ignore", RuntimeWarning)
        interval = stats.ttest_1samp(values, 0.0).confidence_interval(level)
    return Estimate(value, float(interval.low), float(interval.high), n, level)


def _added(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    """After − before, pair by pair."""
    if len(before) != len(after):
        raise ValueError(f"before and after must be pairs, got {len(before)} and {len(after)}")
    return after - before


def _exp(estimate: Estimate) -> Estimate:
    """From logarithms back to factors."""
    value, low, high = (
        None if end is None else _factor(end)
        for end in (estimate.value, estimate.low, estimate.high)
    )
    assert value is not None
    return Estimate(value, low, high, estimate.count, estimate.level)


def _factor(logarithm: float) -> float:
    """Exp, limited so that two numbers of very different size do not overflow."""
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
