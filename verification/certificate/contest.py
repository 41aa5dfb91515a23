"""The residual mask (3), judged without a close look at every weight that is left.

For every block all weights that are left compete. The margin δ of each needs |Ŵ_<| |N|: over all
blocks some c b³ / 3B multiplications, where pruning takes c b². But few weights are so near the
threshold that their δ matters: bounds of S − δ and S + δ, a few operations each, say of all others
on which side they are, whatever their δ is. The thresholds of the others, counted from those below,
are the thresholds of all.
"""

import math
from dataclasses import dataclass

import numpy as np

from reference.patterns import Unstructured, column_blocks
from verification.certificate.case import Array, Case, Indices, Mask
from verification.certificate.rebuild import Rebuilt
from verification.certificate.rules import Rules
from verification.certificate.scores import column_factors, rounding, scored
from verification.certificate.selection import Selection
from verification.thresholds import UNIT_ROUNDOFF

SAMPLE = 2**14  # weights that say about where the threshold is; of few more, all are looked at
CACHED = 2**15  # weights that are bounded at one time: their bounds stay in the cache
SLACK = 16 * UNIT_ROUNDOFF["float64"]  # the rounding of the bounds themselves, relative


@dataclass(frozen=True)
class Contest(Selection):
    """The choice (3), of the weights whose margins matter: `values` is (1, contenders).

    places  rows, and columns of the layer, of the contenders: first those of the block
    surely  whether the block's other weights are removed, beyond doubt, (rows, j2 - j1)
    needed  how many weights are still to be removed, here or behind this block
    """

    places: tuple[Indices, Indices]
    surely: Mask
    needed: int

    @property
    def columns(self) -> slice:
        """The columns of the block."""
        return slice(*self.block)

    @property
    def size(self) -> int:
        """Weights of the block."""
        return self.surely.size

    def picks(self, mask: Mask) -> Mask:
        """The mask at the contenders of the block, (1, decided)."""
        rows, columns = (each[: self.decided] for each in self.places)
        return mask[rows, columns][None]

    def fill(self, mask: Mask, picks: Mask) -> None:
        """Make the block of the mask what is sure, and `picks` at the contenders."""
        rows, columns = (each[: self.decided] for each in self.places)
        mask[:, self.columns] = self.surely
        mask[rows, columns] = picks[0]

    def miscounted(self, mask: Mask, picks: Mask) -> int:
        """T1: the residual mask binds only the total, so no fewer than needed counts at the end."""
        off = int(mask[:, self.columns].sum()) - self.needed
        return abs(off) if self.block[1] == mask.shape[1] else max(0, off)

    def place(self, row: int, column: int) -> str:
        """Where a contender is, for people."""
        rows, columns = self.places
        return f"row {rows[column]}, column {columns[column]}"


@dataclass(frozen=True)
class Bounds:
    """S − δ is at least |W_ij| low_j − x_i y_j, and S + δ at most |W_ij| high_j + x_i y_j."""

    low: Array
    high: Array
    x: Array
    y: Array

    def of_columns(self, chosen: slice | Indices) -> "Bounds":
        """The same for some columns."""
        return Bounds(self.low[chosen], self.high[chosen], self.x, self.y[chosen])

    def of(self, weights: Array, x: Array) -> tuple[Array, Array]:
        """Both, of weights of these columns, with the x of their rows; shapes broadcast."""
        sizes, margins = np.abs(weights), x * self.y
        lower, upper = sizes * self.low, np.multiply(sizes, self.high, out=sizes)
        lower -= margins
        upper += margins
        return lower, upper


@dataclass(frozen=True)
class Near:
    """What is known of the threshold before any δ is.

    low, high      enclose the thresholds of S − δ and of S + δ
    below          weights that are surely below
    rows, columns  the others that are not surely above
    """

    low: float
    high: float
    below: int
    rows: Indices
    columns: Indices


def contest(case: Case, rules: Rules, rebuilt: Rebuilt, mask: Mask, given: bool) -> Contest:
    """The choice of one block. `mask` is read before the block, and in it if it is given.

    A weight that is on the wrong side beyond doubt contends as well, so that it is told how far.
    """
    assert isinstance(rules.pattern, Unstructured)
    j1, j2 = rebuilt.block
    needed = rules.pattern.removed(mask.size) - int(mask[:, :j1].sum())
    factors, errors = column_factors(case, rules, j1)
    bounds = _bounds(case, rebuilt, factors, errors)
    near = _near(rebuilt.weights, bounds, needed)

    width = j2 - j1
    lower, upper = bounds.of_columns(slice(width)).of(rebuilt.weights[:, :width], bounds.x)
    below = upper < near.low
    surely = below & case.zeros[:, j1:j2]
    picked = mask[:, j1:j2] if given else surely
    own = np.nonzero(~(below | (lower > near.high)) | (picked != below))
    others = near.columns >= width
    rows, columns = (
        np.concatenate(parts)
        for parts in zip(own, (near.rows[others], near.columns[others]), strict=True)
    )
    values, margins = scored(
        case,
        rebuilt.weights[rows, columns],
        rebuilt.spread(rows, columns) if j1 else None,
        factors[columns],
        None if errors is None else errors[columns],
        case.factor_rounding[rows, 0],
    )
    return Contest(
        block=rebuilt.block,
        rows=np.arange(len(mask)),
        values=values[None],
        margins=margins[None],
        group=max(1, len(values)),
        count=needed - near.below + int(below[own].sum()),
        decided=len(own[0]),
        places=(rows, columns + j1),
        surely=surely,
        needed=needed,
    )


def _bounds(case: Case, rebuilt: Rebuilt, factors: Array, errors: Array | None) -> Bounds:
    """With a bound of |Ŵ_<| |N|. In the first block weights are original: they have no spread."""
    moved = rebuilt.block[0] > 0
    u = rounding(case, moved)
    relative = u + SLACK + (0.0 if errors is None else errors)
    x, y = rebuilt.spread_bound()
    # One number a row, the larger one, stands for the spread and for what the factorisation adds.
    x = np.maximum(x, case.largest) if moved else np.zeros_like(x)
    y = (u * y + case.factor_share) * factors * (1 + SLACK)
    return Bounds(factors * (1 - relative), factors * (1 + relative), x, y)


def _near(weights: Array, bounds: Bounds, count: int) -> Near:
    """The weights that the thresholds, the count-th smallest of S − δ and S + δ, may pass by."""
    nothing = np.zeros(0, dtype=np.intp)
    if count <= 0:
        return Near(-np.inf, -np.inf, 0, nothing, nothing)
    if count > weights.size:
        return Near(np.inf, np.inf, weights.size, nothing, nothing)
    low, high = _bracket(weights, bounds, count)
    # The bracket comes from a sample and may miss; then all weights are looked at.
    return _within(weights, bounds, count, low, high) or _all(weights, bounds, count)


def _bracket(weights: Array, bounds: Bounds, count: int) -> tuple[float, float]:
    """Two numbers that very likely enclose the thresholds of all lower and all upper bounds."""
    if weights.size < 4 * SAMPLE:
        return -np.inf, np.inf
    drawn = np.random.default_rng(0).integers(weights.shape, size=(SAMPLE, 2))
    rows, columns = drawn.T
    lower, upper = bounds.of_columns(columns).of(weights[rows, columns], bounds.x[rows, 0])
    lower.sort()
    upper.sort()
    middle = count * SAMPLE // weights.size
    reach = 2 * math.isqrt(SAMPLE)  # four standard deviations of a quantile's rank in a sample
    low = lower[middle - reach] if middle >= reach else -np.inf
    high = upper[middle + reach] if middle + reach < SAMPLE else np.inf
    return float(low), float(high)


def _all(weights: Array, bounds: Bounds, count: int) -> Near:
    found = _within(weights, bounds, count, -np.inf, np.inf)
    assert found is not None  # nothing is below or above those, not even NaN
    return found


def _within(weights: Array, bounds: Bounds, count: int, low: float, high: float) -> Near | None:
    """Near, if both thresholds are between `low` and `high`."""
    width = weights.shape[1]
    below, places, lowers, uppers = 0, [], [], []
    for i1, i2 in column_blocks(len(weights), max(1, CACHED // width)):
        lower, upper = bounds.of(weights[i1:i2], bounds.x[i1:i2])
        under = upper < low
        below += int(np.count_nonzero(under))
        between = np.flatnonzero(~(under | (lower > high)))  # NaN is never surely anywhere
        places.append(i1 * width + between)
        lowers.append(lower.ravel()[between])
        uppers.append(upper.ravel()[between])
    place, lower, upper = (np.concatenate(parts) for parts in (places, lowers, uppers))
    k = count - below
    if not 0 < k <= len(place):
        return None
    least, most = (float(np.partition(each, k - 1)[k - 1]) for each in (lower, upper))
    if least < low or most > high:
        return None
    under = upper < least
    below += int(np.count_nonzero(under))
    rows, columns = np.divmod(place[~(under | (lower > most))], width)
    return Near(least, most, below, rows, columns)
