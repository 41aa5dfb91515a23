"""The exact run for the masks of Ŵ, T, and for the judge's own masks, T*. T13.

Every row of T follows from W, H and its mask alone. A row of T* is that of T until the judge
chooses otherwise in it; from there on it goes its own way, as one more row of the same arrays.
"""

import numpy as np

from reference.patterns import column_blocks
from verification.certificate.case import Array, Case, Indices, Mask, times_lower_transposed
from verification.certificate.choices import Choice, Scores, Tally
from verification.certificate.outliers import OutlierRows
from verification.certificate.rules import Rules
from verification.certificate.solver import best_moves
from verification.thresholds import LARGEST_REPLAY

NARROW = 16  # columns of a sweep that are removed one by one before others follow
PART = 2**21  # numbers of a product that are held at one time


class Replay:
    """A layer on its way from W to T, its masks chosen or read block by block.

    weights   (rows, b): T before the block, the state of the exact run behind it; rows of T* last
    E         (rows, b): (T − W) Mᵀ
    mask      (rows, b)
    star      where the row of T* is that belongs to a row of T, (c,)
    grown     whether the exact run leaves all bounds, and was given up
    error     β², (rows,): how far, squared and in the norm of H, W is from a weight for which the
              updates of T are exact
    """

    def __init__(
        self,
        case: Case,
        rules: Rules,
        outliers: OutlierRows,
        mask: Mask | None,
        blind: bool = False,
    ) -> None:
        """Run.

        mask   (c, b), that of Ŵ, or None to infer it from the zeros
        blind  count only, for H on which nothing else can be decided
        """
        self.case, self.rules, self.outliers, self.given = case, rules, outliers, mask
        self.blind = blind
        self.weights = case.W.copy()
        self.E = np.zeros_like(case.W)
        self.mask = np.zeros(case.W.shape, dtype=bool)
        self.error = np.zeros(len(case.W))
        self.star: Indices = np.arange(len(case.W))
        self.tally = Tally()
        self.grown = False
        self._moved = False
        self._stray()
        self._run()

    @property
    def rows(self) -> int:
        """The rows of the layer, c."""
        return len(self.case.W)

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

    def _stray(self) -> None:
        """Count what the given mask removes of outlier rows, T1."""
        if self.given is None:
            return
        outside = self.given.copy()
        outside[self.outliers.ordinary] = False
        self.mask[: self.rows] = outside
        if outside.any():
            self.tally.miscounted = int(outside.sum())
            self.tally.first_miscount = f"{outside.sum()} weights of outlier rows removed"

    def _run(self) -> None:
        if self.rules.original_scores or self.blind:
            for j1, j2 in self.rules.original_blocks():
                self._choose(j1, j2)
        if self.blind:
            return
        if not self.rules.moves:
            self.weights[self.mask] = 0.0
            self.E = times_lower_transposed(self.weights - self.case.W[self._owners], self.case.M)
            return
        for j1, j2 in column_blocks(self.rules.columns, self.rules.block):
            if not self.rules.original_scores and not self.rules.in_groups:
                self._choose(j1, j2)
            if self.rules.joint:
                self._remove(j1, j2)
            else:
                self._sweep(j1, j2)
            if not np.abs(self.E[:, j1:j2]).max() <= LARGEST_REPLAY:
                self.grown = True
                return
            self._push(j1, j2, self.rules.columns)
            self._moved = True

    @property
    def _owners(self) -> Indices:
        """The row of the layer that each row of the arrays belongs to."""
        return np.concatenate([np.arange(self.rows), self.apart_in_order])

    @property
    def apart_in_order(self) -> Indices:
        """The rows of the layer that the last rows of the arrays, of T*, belong to."""
        apart = self.apart
        return apart[np.argsort(self.star[apart])]

    # Choices

    def _choose(self, j1: int, j2: int) -> None:
        """Choose or read the mask of columns [j1, j2), for T and for T*."""
        rows, J = self.outliers.ordinary, slice(j1, j2)
        own = np.zeros((self.rows, j2 - j1), dtype=bool)
        if len(rows):
            choice = self._choice(j1, j2, rows, np.arange(self.rows))
            if self.blind:
                self._count(choice, J, self._picks(choice, J, None))
                return
            chosen = choice.made()
            picks = self._picks(choice, J, chosen)
            self._count(choice, J, picks)
            choice.compare(picks, chosen, self.tally)
            own[rows] = chosen
        if (
            len(self.apart)
            or len(rows) != len(self.outliers.own_ordinary)
            or ((self.outliers.own_ordinary != rows).any())
        ):
            own = self._own(j1, j2)
        self._go_apart(np.flatnonzero((own != self.mask[self.star, J]).any(axis=1)))
        apart = self.apart
        self.mask[self.star[apart], J] = own[apart]

    def _own(self, j1: int, j2: int) -> Mask:
        """The judge's choice for T*, from its own state, (c, j2 - j1)."""
        own, rows = np.zeros((self.rows, j2 - j1), dtype=bool), self.outliers.own_ordinary
        if len(rows):
            choice = self._choice(j1, j2, rows, self.star)
            own[rows] = choice.made()
        return own

    def _choice(self, j1: int, j2: int, rows: Indices, state: Indices) -> Choice:
        """What is chosen among in columns [j1, j2) of some rows; `state`, (c,): where they are."""
        removed = 0
        if self.rules.residual:
            removed = int(self.mask[:, :j1].sum(axis=1)[state].sum())
        moved = self._moved and not self.rules.original_scores
        return Choice(
            Scores(self.case, self.rules, j1, self.weights, state[rows], rows, moved),
            j2,
            self.rules.group(len(rows), j2 - j1),
            self.rules.count(len(rows), j1, j2, removed),
        )

    def _picks(self, choice: Choice, J: slice, own: Mask | None) -> Mask:
        """The mask of Ŵ where this choice decided, in the shape of `own`; put into T's."""
        rows = self.outliers.ordinary
        source = self.case.zeros if self.given is None else self.given
        part = source[rows, J]
        picks = part.all(axis=0, keepdims=True) if self.rules.whole_columns else part
        if self.given is None and own is not None:
            picks = choice.inferred(picks, own)
        self.mask[rows, J] = picks if self.given is None else part
        return picks

    def _count(self, choice: Choice, J: slice, picks: Mask) -> None:
        """T1 for this choice."""
        if self.rules.residual:
            # The residual mask binds only the total: no fewer than asked for counts at the end.
            off = int(picks.sum()) - choice.count
            off = abs(off) if J.stop == self.rules.columns else max(0, off)
        elif self.rules.whole_columns:
            part = self.mask[self.outliers.ordinary, J]
            off = abs(int(picks.sum()) - choice.count) + int((part != picks).sum())
        else:
            counts = picks.reshape(-1, choice.group).sum(axis=1)
            off = int(np.abs(counts - choice.count).sum())
        if off:
            self.tally.miscounted += off
            self.tally.first_miscount = (
                self.tally.first_miscount
                or f"first in columns {J.start} to {J.stop - 1}: off by {off}"
            )

    def _go_apart(self, rows: Indices) -> None:
        """Give T* rows of its own for these rows of T that it shared so far."""
        rows = rows[self.star[rows] < self.rows]
        if not len(rows):
            return
        self.star[rows] = len(self.weights) + np.arange(len(rows))
        self.weights, self.E, self.mask, self.error = (
            np.concatenate([each, each[rows]])
            for each in (self.weights, self.E, self.mask, self.error)
        )

    # Updates

    def _remove(self, j1: int, j2: int) -> None:
        """Joint update (6) of a block; the columns behind it follow later."""
        J, mask = slice(j1, j2), self.mask[:, j1:j2]
        M_kk, U_kk = self.case.M[J, J], self.case.U[J, J]
        start = self.weights[:, J]
        moves = best_moves(start, mask, M_kk, U_kk)
        self.weights[:, J] = np.where(mask, 0.0, start + moves)
        self.E[:, J] = moves @ M_kk.T
        # What the gradient lacks to 0 is the gradient of a change of W alone. T13.
        gradient = np.where(mask, 0.0, self.E[:, J] @ M_kk)
        self.error += np.sum((gradient @ U_kk.T) ** 2, axis=1)

    def _sweep(self, j1: int, j2: int) -> None:
        """Remove columns one by one, the earlier ones frozen; halves first, for fewer products."""
        narrow = self.rules.pattern.m if self.rules.in_groups else NARROW  # type: ignore[union-attr]
        if j2 - j1 > narrow:
            middle = j1 + max(1, (j2 - j1) // narrow // 2) * narrow
            self._sweep(j1, middle)
            self._push(j1, middle, j2)
            self._sweep(middle, j2)
            return
        if self.rules.in_groups:
            self._choose(j1, j2)
            self._moved = True
        for j in range(j1, j2):
            gone = self.mask[:, j]
            self.E[gone, j] = -self.weights[gone, j] * self.case.M[j, j]
            self.weights[gone, j] = 0.0
            if j + 1 < j2:
                self.weights[:, j + 1 : j2] += np.outer(self.E[:, j], self.case.U[j, j + 1 : j2])

    def _push(self, j1: int, j2: int, end: int) -> None:
        """Let the columns [j2, end) follow what columns [j1, j2) have moved. T9."""
        if j2 == end:
            return
        U = self.case.U[j1:j2, j2:end]
        for i1, i2 in column_blocks(len(self.weights), max(1, PART // (end - j2))):
            self.weights[i1:i2, j2:end] += self.E[i1:i2, j1:j2] @ U
