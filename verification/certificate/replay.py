"""The exact run for the masks of Ŵ, T, and for the judge's own masks, T*. T13.

Every row of T follows from W, H and its mask alone. A row of T* is that of T until the judge
chooses otherwise in it; from there on it goes its own way, as one more row of the same arrays.
"""

import numpy as np

from reference.patterns import column_blocks
from verification.certificate.case import (
    Array,
    Indices,
    Mask,
    ScaledCase,
    row_squares,
    times_lower,
    times_lower_transposed,
)
from verification.certificate.choices import Choice, ChoiceTally
from verification.certificate.device_array import pieces
from verification.certificate.outliers import OutlierRows
from verification.certificate.rules import MethodRules
from verification.certificate.solver import best_moves
from verification.thresholds import LARGEST_REPLAY

NARROW = 16  # columns of a sweep that are removed one by one before others follow
PART = 2**21  # numbers of a product that are held at one time
SPARE = 8  # rows for T* that are there from the beginning, and whenever more are needed
BY_ROW = ("weights", "E", "mask", "error", "squares", "largest")  # arrays with one entry a row


class Replay:
    """A layer on its way from W to T, its masks chosen or read block by block.

    weights  (rows, b): T before the block, the state of the exact run behind it; rows of T* behind
             those of T
    E        (rows, b): (T − W) Mᵀ
    mask     (rows, b)
    squares  ‖(T − W)_i,<‖² of the columns that are final, (rows,)
    largest  the largest weight of each row of W and of what is final of T, (rows,)
    star     where the row of T* is that belongs to a row of T, (c,)
    error    β², (rows,): how far, squared and in the norm of H, W is from a weight for which the
             updates of T are exact
    grown    whether the exact run left all bounds, and was given up
    """

    def __init__(
        self,
        case: ScaledCase,
        rules: MethodRules,
        outliers: OutlierRows,
        mask: Mask | None,
        blind: bool,
    ) -> None:
        """Run.

        mask   (c, b), that of Ŵ, or None to infer it from the zeros
        blind  count only, for H on which nothing else can be decided
        """
        self.case, self.rules, self.outliers, self.given = case, rules, outliers, mask
        self.rows = self._used = len(case.W)
        self.weights, self.E = case.W, np.zeros_like(case.W)
        self.mask = np.zeros(case.W.shape, dtype=bool, like=case.W)
        self.error, self.squares = (np.zeros(self.rows, like=case.W) for _ in range(2))
        self.largest = np.abs(case.W).max(axis=1)
        self.star: Indices = np.arange(self.rows, like=case.W)
        self._make_room(SPARE)
        self.tally, self.grown, self._moved = ChoiceTally(), False, False
        self._stray()
        if rules.original_scores or blind:
            for j1, j2 in rules.original_blocks():
                if not blind:
                    self._choose(j1, j2)
                elif len(outliers.ordinary):
                    self._read(j1, j2)
        if not blind:
            self._move() if rules.moves else self._zero()

    @property
    def T(self) -> Array:
        """The exact run with the masks of Ŵ, (c, b)."""
        return self.weights[: self.rows]

    @property
    def found(self) -> Mask:
        """The masks of Ŵ, (c, b)."""
        return self.mask[: self.rows]

    @property
    def apart(self) -> Indices:
        """The rows in which T* is not T."""
        return np.flatnonzero(self.star >= self.rows)

    @property
    def _owners(self) -> Indices:
        """The rows of the layer that the rows of the arrays belong to; any for unused ones."""
        owners: Indices = np.zeros(len(self.weights), dtype=np.intp, like=self.star)
        rows = np.arange(self.rows, like=self.star)
        owners[self.star], owners[: self.rows] = rows, rows
        return owners

    def _zero(self) -> None:
        """Methods that move nothing."""
        self.weights[self.mask] = 0.0
        self.E = times_lower_transposed(self.weights - self.case.W[self._owners], self.case.M)

    def _move(self) -> None:
        """All blocks, left to right."""
        for j1, j2 in column_blocks(self.rules.columns, self.rules.block):
            if not self.rules.original_scores and not self.rules.in_groups:
                self._choose(j1, j2)
            (self._remove if self.rules.joint else self._sweep)(j1, j2)
            if not np.abs(self.E[:, j1:j2]).max() <= LARGEST_REPLAY:
                self.grown = True
                return
            self._push(j1, j2, self.rules.columns)

    # Choices

    def _stray(self) -> None:
        """Count what the given mask removes of outlier rows, T1."""
        if self.given is None:
            return
        self.mask[: self.rows] = self.given
        self.mask[self.outliers.ordinary] = False
        self.tally.miscounted = int(self.mask.sum())
        if self.tally.miscounted:
            self.tally.first_miscount = f"{self.tally.miscounted} weights of outlier rows removed"

    def _choose(self, j1: int, j2: int) -> None:
        """Choose or read the mask of columns [j1, j2), for T and for T*."""
        rows, own_rows, J = self.outliers.ordinary, self.outliers.own_ordinary, slice(j1, j2)
        own = np.zeros((self.rows, j2 - j1), dtype=bool, like=self.mask)
        if len(rows):
            choice = self._choice(j1, j2, rows, np.arange(self.rows, like=self.star))
            own[rows] = chosen = choice.made()
            choice.compare(self._read(j1, j2, choice, chosen), chosen, self.tally)
        if len(self.apart) or not np.array_equal(rows, own_rows):
            own[:] = False
            if len(own_rows):
                own[own_rows] = self._choice(j1, j2, own_rows, self.star).made()
        self._go_apart(np.flatnonzero((own != self.mask[self.star, J]).any(axis=1)))
        self.mask[self.star[self.apart], J] = own[self.apart]

    def _choice(self, j1: int, j2: int, rows: Indices, state: Indices) -> Choice:
        """What is chosen among in columns [j1, j2) of some rows; `state`, (c,): where they are."""
        removed = 0
        if self.rules.residual:
            removed = int(self.mask[:, :j1].sum(axis=1)[state].sum())
        count = self.rules.count(len(rows), j1, j2, removed)
        at = state[rows]
        moved = self._moved and not self.rules.original_scores
        lengths = np.sqrt(self.squares[at])[:, None] if moved else None
        largest = self.largest[at][:, None]
        return Choice(
            self.case, self.rules, self.weights, at, rows, j1, j2, count, lengths, largest
        )

    def _read(
        self, j1: int, j2: int, choice: Choice | None = None, own: Mask | None = None
    ) -> Mask:
        """The mask of Ŵ in these columns, put into T's, in the shape of `own`; counted, T1."""
        rows, J = self.outliers.ordinary, slice(j1, j2)
        choice = choice or self._choice(j1, j2, rows, np.arange(self.rows, like=self.star))
        part: Mask = (self.case.zeros if self.given is None else self.given)[rows, J]
        picks: Mask = np.all(part, axis=0, keepdims=True) if self.rules.whole_columns else part
        if self.given is None and own is not None:
            picks = part = choice.inferred(picks, own)
        self.mask[rows, J] = part
        if self.rules.residual:
            # The residual mask binds only the total: no fewer than asked for counts at the end.
            off = int(picks.sum()) - choice.count
            off = abs(off) if j2 == self.rules.columns else max(0, off)
        elif self.rules.whole_columns:
            off = abs(int(picks.sum()) - choice.count) + int((part != picks).sum())
        elif self.rules.whole_layer:
            off = abs(int(picks.sum()) - choice.count)
        else:
            counts = picks.reshape(-1, choice.group).sum(axis=1)
            off = int(np.abs(counts - choice.count).sum())
        if off and not self.tally.miscounted:
            self.tally.first_miscount = f"first in columns {j1} to {j2 - 1}: off by {off}"
        self.tally.miscounted += off
        return picks

    def _go_apart(self, rows: Indices) -> None:
        """Give T* rows of its own for these rows of T that it shared so far."""
        rows = rows[self.star[rows] < self.rows]
        if not len(rows):
            return
        self._make_room(len(rows))
        self.star[rows] = self._used + np.arange(len(rows))
        self._used += len(rows)
        for name in BY_ROW:
            getattr(self, name)[self.star[rows]] = getattr(self, name)[rows]

    def _make_room(self, rows: int) -> None:
        """More rows at the end of the arrays, where they have fewer left than are wanted."""
        if self._used + rows <= len(self.weights):
            return
        for name in BY_ROW:
            each = getattr(self, name)
            more = np.zeros((rows + SPARE, *each.shape[1:]), dtype=each.dtype, like=each)
            setattr(self, name, np.concatenate([each, more]))

    # Updates

    def _finish(self, j1: int, j2: int) -> None:
        """Note what margins need to know of columns that are final."""
        self.squares += row_squares(self.weights[:, j1:j2] - self.case.W[self._owners, j1:j2])
        np.maximum(self.largest, np.abs(self.weights[:, j1:j2]).max(axis=1), out=self.largest)
        self._moved = True

    def _remove(self, j1: int, j2: int) -> None:
        """Joint update (6) of a block; the columns behind it follow later."""
        J = slice(j1, j2)
        start, mask = self.weights[:, J], self.mask[:, J]
        M_kk, U_kk = self.case.M[J, J], self.case.U[J, J]
        moves = best_moves(start, mask, M_kk, U_kk)
        self.weights[:, J] = np.where(mask, 0.0, start + moves)
        self.E[:, J] = times_lower_transposed(moves, M_kk)
        # What the gradient lacks to 0 is the gradient of a change of W alone. T13.
        gradient = np.where(mask, 0.0, times_lower(self.E[:, J], M_kk))
        self.error += row_squares(times_lower(gradient, U_kk.T))
        self._finish(j1, j2)

    def _sweep(self, j1: int, j2: int) -> None:
        """Remove columns one by one, the earlier ones frozen; halves first, for fewer products."""
        narrow = self.rules.group(j2 - j1) if self.rules.in_groups else NARROW
        if j2 - j1 > narrow:
            middle = j1 + max(1, (j2 - j1) // narrow // 2) * narrow
            self._sweep(j1, middle)
            self._push(j1, middle, j2)
            self._sweep(middle, j2)
            return
        if self.rules.in_groups:
            self._choose(j1, j2)
        # Columns as rows of copies: neighbours in memory, which is all that differs.
        J = slice(j1, j2)
        weights, mask = self.weights[:, J].T.copy(), self.mask[:, J].T.copy()
        E, pivots, U_kk = np.zeros_like(weights), np.diag(self.case.M)[J], self.case.U[J, J]
        for j, gone in enumerate(mask):
            np.multiply(weights[j], -pivots[j], out=E[j], where=gone)
            weights[j][gone] = 0.0
            weights[j + 1 :] += np.outer(U_kk[j, j + 1 :], E[j])
        self.weights[:, J], self.E[:, J] = weights.T, E.T
        self._finish(j1, j2)

    def _push(self, j1: int, j2: int, end: int) -> None:
        """Let the columns [j2, end) follow what columns [j1, j2) have moved. T9."""
        U = self.case.U[j1:j2, j2:end]
        part = pieces(U, PART)
        for i1, i2 in column_blocks(len(self.weights), max(1, part // max(1, end - j2))):
            self.weights[i1:i2, j2:end] += self.E[i1:i2, j1:j2] @ U
