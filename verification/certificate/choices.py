"""Check 2: every choice follows the rule, but for what rounding alone decides. Spec (2) to (5)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from reference.patterns import column_blocks
from verification.certificate.case import Array, Case, Indices, Mask
from verification.certificate.report import Check
from verification.certificate.rules import Rules
from verification.thresholds import ROUNDINGS

SAMPLE = 2**14  # weights that say about where the threshold is; of few more, all are sorted
CACHED = 2**16  # weights whose scores are made at one time: they stay in the cache


@dataclass
class Tally:
    """What the choices of a layer add up to."""

    miscounted: int = 0
    wrong: int = 0
    deviating: int = 0
    decided: int = 0
    closest: float = 0.0  # a choice on the wrong side of the threshold, in units of its margin
    first_miscount: str = ""
    first_wrong: str = ""

    def checks(self, mask: Mask) -> list[Check]:
        """Counts, choices and margins."""
        note = f"{self.deviating} of {self.decided} choices inside their margins, made otherwise"
        return [
            Check("counts", "T1", self.miscounted, 0, self.first_miscount, f"{mask.sum()} removed"),
            Check("masks", "(2) to (5)", self.wrong, 0, self.first_wrong, note),
            Check("margin", "T9", self.closest, None, "", "in units of what rounding explains"),
        ]


@dataclass(frozen=True)
class Scores:
    """What the columns J = [j1, b) are chosen by, with the rounding error δ of right code.

    weights  (., b), as they are when the choice is made
    at       the rows of `weights` that are chosen among, (rows,)
    rows     the rows of the layer that these are, (rows,)
    moved    whether an update has moved them
    """

    case: Case
    rules: Rules
    j1: int
    weights: Array
    at: Indices
    rows: Indices
    moved: bool

    def plain(self, part: slice | Indices, width: int) -> Array:
        """S of some rows and the first `width` columns of J; of one unit if rows compete."""
        S = self.weights[self.at[part], self.j1 : self.j1 + width]
        np.abs(S, out=S)
        S *= self._factors[0][:width]
        if self._scales is not None:
            S *= self._scales[part]
        return S

    def margins(self, part: slice | Indices, S: Array) -> Array:
        """δ of the same: 8u S, and 8u ‖X_j‖ ‖D_i,<‖ ‖N_j‖ once an update has moved weights."""
        width = S.shape[1]
        factors, errors = self._factors
        relative = ROUNDINGS * self.case.u + (0.0 if errors is None else errors[:width])
        margins: Array = S * relative
        if self.moved:
            x, largest = (each[part] for each in self._row_sizes)
            spread = x * (ROUNDINGS * self.case.u * self._column_sizes[:width])
            spread += largest * self.case.factor_share
            spread *= factors[:width]
            margins += spread if self._scales is None else spread * self._scales[part]
        return margins

    @cached_property
    def _scales(self) -> Array | None:
        return None if self.rules.within_rows else self.case.row_scales(self.rows)

    @cached_property
    def _factors(self) -> tuple[Array, Array | None]:
        if self.rules.original_scores:  # with J = all columns
            factors, errors = column_factors(self.case, self.rules, 0)
            return factors[self.j1 :], None if errors is None else errors[self.j1 :]
        return column_factors(self.case, self.rules, self.j1)

    @cached_property
    def _row_sizes(self) -> tuple[Array, Array]:
        """‖D_i,<‖, and the largest weight of each row, (rows, 1)."""
        W, weights, j1 = self.case.W[self.rows], self.weights[self.at], self.j1
        lengths = np.linalg.norm(weights[:, :j1] - W[:, :j1], axis=1, keepdims=True)
        largest = np.maximum(np.abs(W).max(axis=1), np.abs(weights).max(axis=1))
        return lengths, largest[:, None]

    @cached_property
    def _column_sizes(self) -> Array:
        """‖N_j‖ for N = H_<J (H_JJ)⁻¹ = (M_J<)ᵀ U_JJ; float32 is enough for the size of an error."""
        j1 = self.j1
        M, U = (each.astype(np.float32) for each in (self.case.M[j1:, :j1], self.case.U[j1:, j1:]))
        sizes = np.empty(U.shape[1])
        for k1, k2 in column_blocks(len(sizes), 256):  # U is triangular
            N = M[:k2].T @ U[:k2, k1:k2]
            sizes[k1:k2] = np.sqrt(np.einsum("lj,lj->j", N, N))
        return sizes


def column_factors(case: Case, rules: Rules, j1: int) -> tuple[Array, Array | None]:
    """The f_j with S_ij = |W_ij| f_j for the columns J = [j1, b), and their relative errors.

    No errors are counted for ‖X_j‖: it is as exact as the rounding of scores allows for.

    Scores that are squares, W²/((H_JJ)⁻¹)_jj, are judged by their roots: the order is the same.
    """
    if rules.method == "sparsegpt":
        # U_jj = 1 / M_jj. Cholesky makes errors of u Σ_l M_lj² in M_jj², which is H_jj.
        pivots = np.diag(case.M)
        return pivots[j1:], (4 * case.u * case.H_diagonal / pivots**2)[j1:]
    if rules.method == "thanos" and rules.ablation.metric == "obs":
        U = case.U[j1:, j1:]
        R_jj = np.sum(U**2, axis=0)
        # An error of u |M|ᵀ|M| in H changes R_jj by at most R (u |M|ᵀ|M|) R, its j-th entry.
        spread = np.sum((np.abs(case.M[j1:, j1:]) @ np.abs(U.T @ U)) ** 2, axis=0)
        return 1 / np.sqrt(R_jj), 4 * case.u * spread / R_jj
    plain = rules.method == "magnitude" or rules.ablation.metric == "magnitude"
    return (np.ones_like(case.norms) if plain else case.norms)[j1:], None


@dataclass(frozen=True)
class Choice:
    """The `count` smallest of every group of values, of which columns [j1, j2) are decided.

    group  neighbouring values that compete, in row-major order; those of the residual mask (3) are
           all columns from j1 on
    """

    scores: Scores
    j2: int
    group: int
    count: int

    @property
    def width(self) -> int:
        """Columns that are decided."""
        return self.j2 - self.scores.j1

    def made(self) -> Mask:
        """The judge's own choice, (rows, width), or (1, width) of whole columns."""
        everything = slice(None)
        if self._alone:
            return self._of_layer()
        if self.scores.rules.whole_columns:
            return smallest(self.column_values()[0], self.width, self.count)
        return smallest(self.scores.plain(everything, self.width), self.group, self.count)

    def column_values(self) -> tuple[Array, Array]:
        """One value a column, (1, width), and its margin: Σ S² for methods that move, else Σ S.

        Sums and means have the same order. Adding up n terms in any order makes a relative error
        of at most n u.
        """
        S = self.scores.plain(slice(None), self.width)
        margins = self.scores.margins(slice(None), S)
        if self.scores.rules.moves:
            margins = 2 * S * margins + margins**2
            S = S**2
        value = S.sum(axis=0, keepdims=True)
        return value, margins.sum(axis=0, keepdims=True) + len(S) * self.scores.case.u * value

    def compare(self, picks: Mask, own: Mask, tally: Tally) -> None:
        """Add to `tally` where `picks` are not the judge's own: inside of the margins, or wrong."""
        tally.decided += picks.size
        differs = picks != own
        if not differs.any():
            return
        rows, columns = np.nonzero(differs)
        picked = picks[rows, columns]
        values, margins, plain, low, high = (each.ravel() for each in self._around(rows, columns))
        # The count-th smallest of S − δ and of S + δ enclose the threshold of right code.
        wrong = np.where(picked, values - margins > high, values + margins < low)
        with np.errstate(invalid="ignore"):  # infinite thresholds, where none or all should go
            beyond = np.where(picked, values - plain, plain - values)
            room = margins + np.where(picked, high - plain, plain - low)
            ratios = np.divide(beyond, room, out=np.where(beyond > 0, np.inf, 0.0), where=room > 0)[
                np.isfinite(beyond)
            ]
        tally.deviating += int((~wrong).sum())
        tally.closest = max(tally.closest, float(ratios.max(initial=0.0)))
        if wrong.any():
            first = int(np.argmax(wrong))
            place = self._place(int(rows[first]), int(columns[first]))
            done = "removed" if picked[first] else "kept"
            tally.wrong += int(wrong.sum())
            tally.first_wrong = (
                tally.first_wrong or f"first at {place}: {done}, S = {values[first]:.6g}"
            )

    def inferred(self, zero: Mask, own: Mask) -> Mask:
        """The zeros of Ŵ that the rule selects; margins speak for them."""
        if not (own & ~zero).any():
            return own
        width = self._reach if self._alone else self.width
        if self.scores.rules.whole_columns:
            S, margins = self.column_values()
        else:
            S = self.scores.plain(slice(None), width)
            margins = self.scores.margins(slice(None), S)
        S += margins
        S[:, : self.width] -= 2 * margins[:, : self.width] * zero
        group = S.size if self._alone else self.group
        return smallest(S, group, self.count)[:, : self.width] & zero

    @property
    def _alone(self) -> bool:
        """Whether all weights compete with all."""
        rules = self.scores.rules
        return not rules.within_rows and not rules.whole_columns

    @property
    def _reach(self) -> int:
        """Columns that compete: those decided, or all that are left."""
        adaptive = self.scores.rules.residual
        return self.scores.weights.shape[1] - self.scores.j1 if adaptive else self.width

    def _place(self, row: int, column: int) -> str:
        """Where a value is, for people."""
        column += self.scores.j1
        if self.scores.rules.whole_columns:
            return f"column {column}"
        return f"row {self.scores.rows[row]}, column {column}"

    def _around(self, rows: Indices, columns: Indices) -> tuple[Array, ...]:
        """Of some values: S, δ, and the thresholds of S, of S − δ and of S + δ."""
        if self._alone:
            thresholds = [np.full(len(rows), self._threshold(sign)) for sign in (0, -1, 1)]
            S = self.scores.plain(rows, self.width)
            margins = self.scores.margins(rows, S)
            each = np.arange(len(rows)), columns
            return S[each], margins[each], *thresholds
        if self.scores.rules.whole_columns:
            S, margins = self.column_values()
            rows = np.zeros_like(rows)
        else:
            own, rows = np.unique(rows, return_inverse=True)
            S = self.scores.plain(own, self.width)
            margins = self.scores.margins(own, S)
        thresholds = [
            np.broadcast_to(kth, groups.shape).reshape(S.shape)[rows, columns]
            for groups in ((S + sign * margins).reshape(-1, self.group) for sign in (0, -1, 1))
            for kth in (kth_smallest(groups, self.count),)
        ]
        return S[rows, columns], margins[rows, columns], *thresholds

    def _values(self, sign: int) -> Callable[[slice | Indices], Array]:
        """S + sign · δ of some rows, all columns that compete."""

        def of(part: slice | Indices) -> Array:
            S = self.scores.plain(part, self._reach)
            return S + sign * self.scores.margins(part, S) if sign else S

        return of

    def _threshold(self, sign: int) -> float:
        return nearest(self._values(sign), len(self.scores.rows), self._reach, self.count)[0]

    def _of_layer(self) -> Mask:
        rows, reach = len(self.scores.rows), self._reach
        threshold, ties = nearest(self._values(0), rows, reach, self.count)
        mask = self.scores.plain(slice(None), self.width) < threshold
        tied_rows, tied_columns = np.divmod(ties, reach)
        decided = tied_columns < self.width
        mask[tied_rows[decided], tied_columns[decided]] = True
        return mask


def smallest(values: Array, group: int, count: int) -> Mask:
    """Mask of the `count` smallest of every group of neighbours; ties to the lower index."""
    groups = values.reshape(-1, group)
    threshold = kth_smallest(groups, count)
    picks, ties = groups < threshold, groups == threshold
    missing = count - picks.sum(axis=1, keepdims=True)
    if (ties.sum(axis=1, keepdims=True) > missing).any():
        ties &= np.cumsum(ties, axis=1) <= missing
    picks |= ties
    return picks.reshape(values.shape)


def kth_smallest(groups: Array, count: int) -> Array:
    """The count-th smallest of every row, (rows, 1); −∞ or ∞ if none or more than all go."""
    if count <= 0 or count > groups.shape[1]:
        return np.full((len(groups), 1), -np.inf if count <= 0 else np.inf)
    found: Array = np.partition(groups, count - 1, axis=1)[:, count - 1 : count]
    return found


def nearest(
    values: Callable[[slice | Indices], Array], rows: int, width: int, count: int
) -> tuple[float, Indices]:
    """The count-th smallest of all values, and which of those that equal it are picked.

    values  of some rows, (rows, width); picks are places in row-major order

    A sample says between which numbers the threshold is, very likely; only what lies between them
    is sorted. If it lies outside, everything is.
    """
    if count <= 0 or count > rows * width:
        return (-np.inf if count <= 0 else np.inf), np.zeros(0, dtype=np.intp)
    found = None
    if rows * width >= 4 * SAMPLE:
        found = _within(values, rows, width, count, *_bracket(values, rows, width, count))
    found = found or _within(values, rows, width, count, -np.inf, np.inf)
    assert found is not None  # nothing is below −∞ or above ∞
    return found


def _bracket(
    values: Callable[[slice | Indices], Array], rows: int, width: int, count: int
) -> tuple[float, float]:
    """Two numbers that very likely enclose the threshold: quantiles of some rows' values."""
    rng = np.random.default_rng(0)
    several = min(rows, max(128, SAMPLE // width))
    sample = np.sort(rng.choice(values(rng.choice(rows, several, replace=False)).ravel(), SAMPLE))
    middle = count * SAMPLE // (rows * width)
    # Rows differ from each other: eight standard deviations of a quantile's rank, not four.
    reach = 4 * math.isqrt(SAMPLE)
    low = sample[middle - reach] if middle >= reach else -np.inf
    high = sample[middle + reach] if middle + reach < SAMPLE else np.inf
    return float(low), float(high)


def _within(
    values: Callable[[slice | Indices], Array],
    rows: int,
    width: int,
    count: int,
    low: float,
    high: float,
) -> tuple[float, Indices] | None:
    """The same, if the threshold lies between `low` and `high`."""
    below, places, found = 0, [], []
    for i1, i2 in column_blocks(rows, max(1, CACHED // width)):
        part = values(slice(i1, i2)).ravel()
        below += int(np.count_nonzero(part < low))
        between = np.flatnonzero((part >= low) & (part <= high))
        places.append(i1 * width + between)
        found.append(part[between])
    place, part = np.concatenate(places), np.concatenate(found)
    k = count - below
    if not 0 < k <= len(part):
        return None
    threshold = float(np.partition(part, k - 1)[k - 1])
    ties = place[part == threshold][: k - int(np.count_nonzero(part < threshold))]
    return threshold, ties
