"""Check 2: every choice follows the rule, but for what rounding alone decides. Spec (2) to (5)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from reference.patterns import column_blocks
from verification.certificate.case import Array, Indices, Mask, ScaledCase
from verification.certificate.device_array import pieces
from verification.certificate.report import Check
from verification.certificate.rules import MethodRules
from verification.certificate.threads import in_parallel
from verification.thresholds import ROUNDINGS

SAMPLE = 2**14  # weights that say about where a threshold is; of few more, all are sorted
CACHED = 2**16  # weights whose scores are made at one time: they stay in the cache
Values = Callable[[slice | Indices], Array]


@dataclass
class ChoiceTally:
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
class Choice:
    """The `count` smallest scores of every group, of which columns [j1, j2) are decided.

    weights  (., b), as they are when the choice is made
    at       the rows of `weights` that are chosen among, (rows,)
    rows     the rows of the layer that these are, (rows,)
    lengths  ‖D_i,<‖, (rows, 1); None before an update has moved them
    largest  the largest weight of each row, (rows, 1)
    """

    case: ScaledCase
    rules: MethodRules
    weights: Array
    at: Indices
    rows: Indices
    j1: int
    j2: int
    count: int
    lengths: Array | None
    largest: Array

    @property
    def width(self) -> int:
        """Columns that are decided."""
        return self.j2 - self.j1

    @property
    def group(self) -> int:
        """Neighbouring values that compete, in row-major order, unless all compete with all."""
        return self.rules.group(self.width)

    def scores(self, part: slice | Indices, width: int) -> Array:
        """S of some rows and the first `width` columns; in one unit where rows compete."""
        S = self.weights[self.at[part], self.j1 : self.j1 + width]
        np.abs(S, out=S)
        S *= self._factors[0][:width]
        S *= self._scales[part]
        return S

    def margins(self, part: slice | Indices, S: Array) -> Array:
        """δ of the same: 8u S, and 8u ‖X_j‖ ‖D_i,<‖ ‖N_j‖ once an update has moved weights."""
        width, u = S.shape[1], ROUNDINGS * self.case.u
        factors, errors = (each[:width] for each in self._factors)
        margins: Array = S * (u + errors)
        if self.lengths is not None:
            spread = self.lengths[part] * (u * self._column_sizes[:width])
            spread += self.largest[part] * self.case.factor_share
            margins += spread * factors * self._scales[part]
        return margins

    @cached_property
    def _scales(self) -> Array:
        scales = self.case.row_scales(self.rows)
        return np.ones_like(scales) if self.rules.within_rows else scales

    @cached_property
    def _factors(self) -> tuple[Array, Array]:
        first = 0 if self.rules.original_scores else self.j1  # J = all columns, or those left
        factors, errors = column_factors(self.case, self.rules, first)
        return factors[self.j1 - first :], errors[self.j1 - first :]

    @cached_property
    def _column_sizes(self) -> Array:
        """‖N_j‖, N = H_<J (H_JJ)⁻¹ = (M_J<)ᵀ U_JJ; float32 is enough for the size of an error.

        Of the columns that compete: as U is upper triangular, no rows behind them are needed.
        """
        j1, end = self.j1, self.j1 + self._reach
        parts = self.case.M[j1:end, :j1], self.case.U[j1:end, j1:end]
        M, U = (each.astype(np.float32) for each in parts)
        sizes = np.empty(U.shape[1], like=U)
        for k1, k2 in column_blocks(
            len(sizes), pieces(U, 256 * len(U)) // len(U)
        ):  # U is triangular
            sizes[k1:k2] = np.linalg.norm(M[:k2].T @ U[:k2, k1:k2], axis=0)
        return sizes

    # The judge's own choice

    def made(self) -> Mask:
        """The judge's own choice, (rows, width), or (1, width) of whole columns."""
        if self.rules.whole_layer:
            threshold, ties = self._threshold(0)
            mask = self.scores(slice(None), self.width) < threshold
            rows, columns = np.divmod(ties, self._reach)
            mask[rows[columns < self.width], columns[columns < self.width]] = True
            return mask
        return smallest(self._values(slice(None)), self.group, self.count)

    def inferred(self, zero: Mask, own: Mask) -> Mask:
        """The zeros of Ŵ that the rule selects; margins speak for them."""
        if np.array_equal(own, zero):
            return own
        S, margins = self._with_margins(slice(None))
        S += margins
        S[:, : self.width] -= 2 * margins[:, : self.width] * zero
        group = S.size if self.rules.whole_layer else self.group
        return smallest(S, group, self.count)[:, : self.width] & zero

    @property
    def _reach(self) -> int:
        """Columns that compete: those decided, or all that are left."""
        return self.weights.shape[1] - self.j1 if self.rules.residual else self.width

    def _values(self, part: slice | Indices) -> Array:
        """What competes: S, or one value a column, (1, width).

        Values are Σ S² for methods that move, else Σ S: sums and means have the same order.
        """
        if not self.rules.whole_columns:
            return self.scores(part, self._reach)
        S = self.scores(slice(None), self.width)
        value: Array = (S**2 if self.rules.moves else S).sum(axis=0, keepdims=True)
        return value

    def _with_margins(self, part: slice | Indices) -> tuple[Array, Array]:
        """What competes, and its margins; they cost more, and are needed for few choices.

        Adding up n terms in any order makes a relative error of at most n u.
        """
        values = self._values(part)
        if not self.rules.whole_columns:
            return values, self.margins(part, values)
        S = self.scores(slice(None), self.width)
        margins = self.margins(slice(None), S)
        if self.rules.moves:
            margins = 2 * S * margins + margins**2
        return values, margins.sum(axis=0, keepdims=True) + len(S) * self.case.u * values

    def _threshold(self, sign: int) -> tuple[float, Indices]:
        """The count-th smallest of S + sign · δ over all that compete, and its ties."""

        def values(part: slice | Indices) -> Array:
            S = self.scores(part, self._reach)
            return S + sign * self.margins(part, S) if sign else S

        at_once = pieces(self.weights, CACHED)
        return nearest(values, len(self.rows), self._reach, self.count, at_once)

    # The choice of the accused

    def compare(self, picks: Mask, own: Mask, tally: ChoiceTally) -> None:
        """Add to `tally` where `picks` are not the judge's own: inside of the margins, or wrong."""
        tally.decided += picks.size
        rows, columns = np.nonzero(picks != own)
        if not len(rows):
            return
        picked = picks[rows, columns]
        values, margins, plain, low, high = self._around(rows, columns)
        # The count-th smallest of S − δ and of S + δ enclose the threshold of right code.
        wrong = np.where(picked, values - margins > high, values + margins < low)
        beyond = np.where(picked, values - plain, plain - values)
        room = margins + np.where(picked, high - plain, plain - low)
        ratios = np.where(beyond > 0, np.inf, 0.0)
        np.divide(beyond, room, out=ratios, where=room > 0)
        # Where none or all should go thresholds are infinite: that is a miscount.
        tally.closest = max(tally.closest, float(ratios[np.isfinite(beyond)].max(initial=0.0)))
        tally.deviating += int((~wrong).sum())
        if wrong.any() and not tally.wrong:
            k = int(np.argmax(wrong))
            row = "" if self.rules.whole_columns else f"row {self.rows[rows[k]]}, "
            done = "removed" if picked[k] else "kept"
            place = f"{row}column {self.j1 + columns[k]}"
            share = f", S is {values[k] / plain[k]:.4g} of the threshold" if plain[k] > 0 else ""
            tally.first_wrong = f"first at {place}: {done}{share}"
        tally.wrong += int(wrong.sum())

    def _around(self, rows: Indices, columns: Indices) -> list[Array]:
        """Of some values: S, δ, and the thresholds of S, of S − δ and of S + δ."""
        some, at = np.unique(rows, return_inverse=True)
        S, margins = self._with_margins(some)
        found = [S[at, columns], margins[at, columns]]
        for sign in (0, -1, 1):
            if self.rules.whole_layer:
                found.append(np.full(len(rows), self._threshold(sign)[0], like=rows))
                continue
            groups = (S + sign * margins).reshape(-1, self.group)
            kth = np.broadcast_to(kth_smallest(groups, self.count), groups.shape)
            found.append(kth.reshape(S.shape)[at, columns])
        return found


def column_factors(case: ScaledCase, rules: MethodRules, j1: int) -> tuple[Array, Array]:
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
    factors = (np.ones_like(case.norms) if plain else case.norms)[j1:]
    return factors, np.zeros_like(factors)


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
        return np.full((len(groups), 1), -np.inf if count <= 0 else np.inf, like=groups)
    found: Array = np.partition(groups, count - 1, axis=1)[:, count - 1 : count]
    return found


def nearest(
    values: Values, rows: int, width: int, count: int, at_once: int = CACHED
) -> tuple[float, Indices]:
    """The count-th smallest of all values, and the places of those equal to it that are picked.

    values   of some rows, (rows, width); places are in row-major order
    at_once  numbers that are looked at together

    A sample says between which numbers the threshold is, very likely; only what lies between them
    is sorted. If it lies outside, everything is.
    """
    if count <= 0 or count > rows * width:
        return (-np.inf if count <= 0 else np.inf), np.zeros(0, dtype=np.intp)
    found = None
    if rows * width >= 4 * SAMPLE:
        rng = np.random.default_rng(0)
        several = rng.choice(rows, min(rows, max(128, SAMPLE // width)), replace=False)
        pool = values(several).ravel()
        sample = np.sort(pool[rng.choice(len(pool), SAMPLE)])
        middle = count * SAMPLE // (rows * width)
        # Rows differ from each other: eight standard deviations of a quantile's rank, not four.
        reach = 4 * math.isqrt(SAMPLE)
        low = sample[middle - reach] if middle >= reach else -np.inf
        high = sample[middle + reach] if middle + reach < SAMPLE else np.inf
        found = _within(values, rows, width, count, at_once, low, high)
    found = found or _within(values, rows, width, count, at_once, -np.inf, np.inf)
    assert found is not None  # nothing is below −∞ or above ∞
    return found


def _within(
    values: Values, rows: int, width: int, count: int, at_once: int, low: float, high: float
) -> tuple[float, Indices] | None:
    """The same, if the threshold lies between `low` and `high`."""

    def look(block: tuple[int, int]) -> tuple[int, Indices, Array]:
        part = values(slice(*block)).ravel()
        between = np.flatnonzero((part >= low) & (part <= high))
        return int(np.count_nonzero(part < low)), block[0] * width + between, part[between]

    blocks = list(column_blocks(rows, max(1, at_once // width)))
    below, places, parts = zip(*in_parallel(look, blocks, at_once > CACHED), strict=True)
    place, part = np.concatenate(places), np.concatenate(parts)
    k = count - sum(below)
    if not 0 < k <= len(part):
        return None
    threshold = float(np.partition(part, k - 1)[k - 1])
    ties = place[part == threshold][: k - int(np.count_nonzero(part < threshold))]
    return threshold, ties
