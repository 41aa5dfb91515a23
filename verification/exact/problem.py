"""W, G and H as fractions, and the factor of H. Spec sections 1 and 5."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from numpy.typing import NDArray

Row = list[Fraction]
Rows = list[Row]


@dataclass(frozen=True)
class ExactProblem:
    """W, (c, b), G, (b, b), and H = Lᵀ D L with a unit lower triangular L and a diagonal D.

    L is M of section 4 with its rows divided by their diagonal entries, D their squares.
    """

    W: Rows
    G: Rows
    L: Rows
    D: Row

    def alone(self, j: int) -> bool:
        """Whether column j is dead: H couples it with no other, and nothing ever moves it."""
        return not any(self.G[j])


def exact_problem(
    weight: NDArray[Any], gram: NDArray[Any], damping: float | Fraction
) -> ExactProblem:
    """What floating-point numbers stand for: every one of them is a fraction."""
    W, G = fractions(weight), fractions(gram)
    G = [[(g + G[j][i]) / 2 for j, g in enumerate(row)] for i, row in enumerate(G)]
    mean = sum((G[j][j] for j in range(len(G))), Fraction(0)) / len(G)
    lam = Fraction(damping) * mean if mean else Fraction(1)
    H = [[g + (lam if i == j else 0) for j, g in enumerate(row)] for i, row in enumerate(G)]
    L, D = factor(H)
    return ExactProblem(W, G, L, D)


def fractions(matrix: NDArray[Any]) -> Rows:
    """A matrix of floating-point numbers, exactly."""
    return [[Fraction(float(value)) for value in row] for row in matrix]


def factor(H: Rows) -> tuple[Rows, Row]:
    """L and D with H = Lᵀ D L: eliminate the last column first, and so on to the left."""
    left = [list(row) for row in H]
    b = len(H)
    L = [[Fraction(int(i == j)) for j in range(b)] for i in range(b)]
    D = [Fraction(0)] * b
    for k in reversed(range(b)):
        D[k] = left[k][k]
        L[k][:k] = [left[k][j] / D[k] for j in range(k)]
        for i in range(k):
            if L[k][i]:
                for j in range(i + 1):
                    left[i][j] -= L[k][i] * left[k][j]
                    left[j][i] = left[i][j]
    return L, D


def solve(A: Rows, right: Row) -> Row:
    """The x with A x = right, for a positive definite A: no pivoting needed."""
    rows = [[*row, value] for row, value in zip(A, right, strict=True)]
    for k, pivot in enumerate(rows):
        for i in range(k + 1, len(rows)):
            share = rows[i][k] / pivot[k]
            if share:
                rows[i] = [a - share * b for a, b in zip(rows[i], pivot, strict=True)]
    x = [Fraction(0)] * len(rows)
    for k in reversed(range(len(rows))):
        known = sum((rows[k][j] * x[j] for j in range(k + 1, len(rows))), Fraction(0))
        x[k] = (rows[k][-1] - known) / rows[k][k]
    return x
