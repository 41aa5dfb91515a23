"""The four methods, exactly. Spec sections 3, 4 and 6, by way of T2 and T9."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from math import isqrt
from typing import Any

from numpy.typing import NDArray

from reference.patterns import (
    Pattern,
    SemiStructured,
    Structured,
    Unstructured,
    column_blocks,
    refuse_outlier_rows,
)
from verification.exact.choices import Candidate, Closeness, choose
from verification.exact.problem import ExactProblem, Row, Rows, exact_problem, solve

LARGEST_WHOLE = 2**24  # float32 holds every whole number below it


@dataclass(frozen=True)
class ExactPruned:
    """The exact result.

    weight     (c, b) fractions, Ŵ
    mask       (c, b), True where a weight was removed
    closeness  of the choices: whether rounding could have made others
    """

    weight: Rows
    mask: list[list[bool]]
    closeness: Closeness


def exact_prune(
    weight: NDArray[Any],
    gram: NDArray[Any],
    pattern: Pattern,
    *,
    method: str = "thanos",
    block_size: int = 128,
    damping: float | Fraction = 0.01,
) -> ExactPruned:
    """Prune one layer exactly; arguments as for the functions of `reference`."""
    if method != "thanos":
        refuse_outlier_rows(method, pattern)
    pattern.check(weight.shape[0], weight.shape[1], block_size)
    run = _Run(exact_problem(weight, gram, damping), pattern, method)
    width = run.columns if run.in_one_go else min(block_size, run.columns)
    for j1, j2 in column_blocks(run.columns, width):
        if method == "sparsegpt":
            run.sweep(j1, j2)
        else:
            run.choose_block(j1, j2)
            if method == "thanos":
                run.move_jointly(j1, j2)
    return ExactPruned(run.result(), run.mask, run.closeness)


class _Run:
    """The state of a run: the current weights and the mask so far."""

    def __init__(self, problem: ExactProblem, pattern: Pattern, method: str) -> None:
        self.problem, self.pattern, self.method = problem, pattern, method
        self.rows, self.columns = len(problem.W), len(problem.G)
        self.mask = [[False] * self.columns for _ in range(self.rows)]
        self.closeness = Closeness()
        self._moved = [False] * self.rows
        self._shares: dict[tuple[int, int], Row] = {}
        self._current = [list(row) for row in problem.W]
        self._ordinary = self._without_outliers()

    @property
    def in_one_go(self) -> bool:
        """Whether one choice over all columns makes the whole mask."""
        zeroing = self.method in ("magnitude", "wanda")
        return zeroing or (self.method == "thanos" and isinstance(self.pattern, Structured))

    def result(self) -> Rows:
        """Ŵ. Magnitude and Wanda move no weight."""
        if self.method in ("magnitude", "wanda"):
            zero = Fraction(0)
            return [
                [zero if gone else value for value, gone in zip(row, mask, strict=True)]
                for row, mask in zip(self.problem.W, self.mask, strict=True)
            ]
        return self._current

    def _without_outliers(self) -> list[int]:
        pattern, everyone = self.pattern, range(self.rows)
        if isinstance(pattern, Unstructured) or not pattern.outliers(self.rows):
            return list(everyone)
        candidates = [
            Candidate((i, 0), self._output(i), True, self._summed_exactly(i)) for i in everyone
        ]
        count = pattern.outliers(self.rows)
        outliers = {i for i, _ in choose(candidates, count, self.closeness, largest=True)}
        return [i for i in everyone if i not in outliers]

    def _summed_exactly(self, i: int) -> bool | None:
        """True for whole numbers whose h_i no arithmetic rounds, else None."""
        row, G = [abs(value) for value in self.problem.W[i]], self.problem.G
        sizes = [sum((w * abs(g) for w, g in zip(row, column, strict=True)), Fraction(0))
                 for column in G]  # fmt: skip
        h = sum((w * size for w, size in zip(row, sizes, strict=True)), Fraction(0))
        if h == 0:
            return True  # a sum of zeros
        whole = all(value.denominator == 1 for value in chain(row, *G))
        return True if whole and h < LARGEST_WHOLE else None

    def _output(self, i: int) -> Fraction:
        """h_i = W_i G W_iᵀ."""
        row, G = self.problem.W[i], self.problem.G
        return sum(
            (row[j] * G[j][k] * row[k] for j in range(self.columns) for k in range(self.columns)),
            Fraction(0),
        )

    # Choices

    def choose_block(self, j1: int, j2: int) -> None:
        """The mask of columns [j1, j2)."""
        pattern = self.pattern
        if isinstance(pattern, SemiStructured):
            for g in range(j1, j2, pattern.m):
                self._choose_groups(g)
        elif isinstance(pattern, Structured):
            self._choose_columns(j1, j2)
        elif self.method == "wanda":
            for i in range(self.rows):
                self._take([i], range(j1, j2), pattern.removed(self.columns), j2)
        elif self.method == "sparsegpt":
            count = pattern.removed(self.rows * j2) - pattern.removed(self.rows * j1)
            self._take(range(self.rows), range(j1, j2), count, j2)
        else:
            left = pattern.removed(self.rows * self.columns) - sum(map(sum, self.mask))
            self._take(range(self.rows), range(j1, self.columns), left, j2)

    def _choose_groups(self, g: int) -> None:
        assert isinstance(self.pattern, SemiStructured)
        for i in self._ordinary:
            end = g + self.pattern.m
            self._take([i], range(g, end), self.pattern.n, end)

    def _take(self, rows: Any, columns: range, count: int, j2: int) -> None:
        """Choose among all weights of these rows and columns; those before j2 go."""
        candidates = [
            Candidate((i, j), self._score(i, j), self._settled(i, j), self._same(i, j))
            for i in rows
            for j in columns
        ]
        for i, j in choose(candidates, count, self.closeness):
            self.mask[i][j] |= j < j2

    def _choose_columns(self, j1: int, j2: int) -> None:
        """Whole columns of the ordinary rows, by one value each."""
        assert isinstance(self.pattern, Structured)
        count = self.pattern.removed(j2) - (self.pattern.removed(j1) if j1 else 0)
        if not self._ordinary:
            return  # all rows are outliers
        candidates = [
            Candidate(
                (0, j),
                self._column_score(j),
                all(self._settled(i, j) for i in self._ordinary),
                self._same_column(j),
            )
            for j in range(j1, j2)
        ]
        for _, j in choose(candidates, count, self.closeness):
            for i in self._ordinary:
                self.mask[i][j] = True

    # Scores, squared

    def _factor(self, j: int) -> Fraction:
        """The f_j with S_ij² = W_ij² f_j."""
        if self.method == "magnitude":
            return Fraction(1)
        # SparseGPT: 1 / (U_jj)² is D_j.
        return self.problem.D[j] if self.method == "sparsegpt" else self.problem.G[j][j]

    def _score(self, i: int, j: int) -> Fraction:
        return self._current[i][j] ** 2 * self._factor(j)

    def _column_score(self, j: int) -> Fraction:
        """Σ S² for Thanos and SparseGPT; for the others Σ S, squared."""
        if self.method in ("thanos", "sparsegpt"):
            return sum((self._score(i, j) for i in self._ordinary), Fraction(0))
        total = sum((abs(self._current[i][j]) for i in self._ordinary), Fraction(0))
        return total**2 * self._factor(j)

    # Which ties are exact in any order of summation

    def _settled(self, i: int, j: int) -> bool:
        """Whether no update has moved a weight: its row lost nothing, or its column is dead."""
        return self.problem.alone(j) or not self._moved[i]

    def _same(self, i: int, j: int) -> object:
        """A key that is equal for weights whose scores need the same floating-point operations."""
        score = self._score(i, j)
        if score == 0:
            return "zero"
        if self.method == "sparsegpt" and not self.problem.alone(j):
            return abs(self._current[i][j]), "column", j
        factor, size = self._factor(j), abs(self._current[i][j])
        product = size * _root(factor)
        if self.method in ("thanos", "wanda") and product**2 == score and _is_short(product):
            return product  # exact in every arithmetic
        return size, factor

    def _same_column(self, j: int) -> object:
        """Such a key for columns; None unless every term and every sum is exact."""
        if self._column_score(j) == 0:
            return "zero"
        factor = self._factor(j)
        root = _root(factor)
        if root**2 != factor or (self.method == "sparsegpt" and not self.problem.alone(j)):
            return None
        return root

    # Updates

    def move_jointly(self, j1: int, j2: int) -> None:
        """Move the kept weights of a block, and all later columns, to their optimum. T2."""
        L, D = self.problem.L, self.problem.D
        block = range(j1, j2)
        # C = L_kkᵀ D_k L_kk: what a move of the block costs when all later columns follow.
        C = [
            [sum((L[k][i] * D[k] * L[k][j] for k in block), Fraction(0)) for j in block]
            for i in block
        ]
        for i in range(self.rows):
            gone = [k for k in range(j2 - j1) if self.mask[i][j1 + k]]
            move = self._best_move(C, self._current[i][j1:j2], gone)
            self._finish(i, j1, move)

    def _best_move(self, C: Rows, values: Row, gone: list[int]) -> Row:
        """δ with δ = −W on `gone`, the rest minimising δ C δᵀ."""
        free = [k for k in range(len(values)) if k not in gone]
        delta = [-values[k] if k in gone else Fraction(0) for k in range(len(values))]
        if gone and free:
            right = [-sum((C[k][q] * delta[q] for q in gone), Fraction(0)) for k in free]
            solution = solve([[C[k][j] for j in free] for k in free], right)
            for k, value in zip(free, solution, strict=True):
                delta[k] = value
        return delta

    def sweep(self, j1: int, j2: int) -> None:
        """SparseGPT: column by column, every column a block of its own."""
        pattern = self.pattern
        for j in range(j1, j2):
            if isinstance(pattern, SemiStructured):
                if j % pattern.m == 0:
                    self._choose_groups(j)
            elif j == j1:
                self.choose_block(j1, j2)
            for i in range(self.rows):
                self._finish(i, j, [-self._current[i][j] if self.mask[i][j] else Fraction(0)])

    def _finish(self, i: int, j1: int, move: Row) -> None:
        """Apply a move of the block from j1 on, and move the later columns to their optimum."""
        if not any(move):
            return
        j2 = j1 + len(move)
        self._moved[i] = True
        row = self._current[i]
        for k, step in enumerate(move):
            row[j1 + k] += step
            if step:
                for j, share in enumerate(self._followers(j1 + k, j2), start=j2):
                    row[j] += step * share

    def _followers(self, mover: int, j2: int) -> Row:
        """How far the columns from j2 on move with column `mover` < j2, the others before j2 fixed.

        They are optimal where E = D Mᵀ is 0, so that D_j = −Σ_l<j D_l L_jl, column by column. T9.
        """
        if (mover, j2) not in self._shares:
            L, later = self.problem.L, list[Fraction]()
            for j in range(j2, self.columns):
                along = sum((D * L[j][k] for k, D in enumerate(later, start=j2)), Fraction(0))
                later.append(-L[j][mover] - along)
            self._shares[mover, j2] = later
        return self._shares[mover, j2]


def _root(square: Fraction) -> Fraction:
    """The root of a square of a fraction; of any other number, one whose square is less."""
    return Fraction(isqrt(square.numerator), isqrt(square.denominator))


def _is_short(number: Fraction) -> bool:
    """Whether a number has so few binary digits that float32 holds it."""
    odd, below = number.numerator, number.denominator
    while odd and odd % 2 == 0:
        odd //= 2
    return odd < 2**24 and below & (below - 1) == 0
