"""Thanos in exact rational arithmetic: spec (2) to (6) with fractions and Gaussian elimination."""

from fractions import Fraction
from math import ceil, floor

from reference import Pattern, SemiStructured, Structured, Unstructured

Row = list[Fraction]
Matrix = list[Row]


def solve(A: Matrix, right: Row) -> Row:
    """x with A x = right, for a positive definite A: no pivoting needed."""
    rows = [[*row, value] for row, value in zip(A, right, strict=True)]
    for k, pivot in enumerate(rows):
        rows[k] = [value / pivot[k] for value in pivot]
        for i, row in enumerate(rows):
            if i != k:
                rows[i] = [a - row[k] * b for a, b in zip(row, rows[k], strict=True)]
    return [row[-1] for row in rows]


def best_row(row: Row, q: list[int], H: Matrix, start: int) -> Row:
    """Minimise D H Dᵀ over the columns from `start` on, with row + D = 0 on q; D = 0 before.

    The normal equations of the free columns themselves, not formula (6).
    """
    free = [j for j in range(start, len(row)) if j not in q]
    right = [sum((H[j][k] * row[k] for k in q), Fraction(0)) for j in free]
    moves = solve([[H[j][k] for k in free] for j in free], right)
    best = [Fraction(0) if j in q else value for j, value in enumerate(row)]
    for j, move in zip(free, moves, strict=True):
        best[j] += move
    return best


def loss(before: Matrix, after: Matrix, H: Matrix) -> Fraction:
    """tr(D H Dᵀ)."""
    total = Fraction(0)
    for old, new in zip(before, after, strict=True):
        D = [b - a for a, b in zip(old, new, strict=True)]
        total += sum(D[j] * H[j][k] * D[k] for j in range(len(D)) for k in range(len(D)))
    return total


def exact_thanos(
    W: Matrix, G: Matrix, pattern: Pattern, block_size: int, damping: Fraction
) -> tuple[Matrix, list[Fraction]]:
    """Ŵ and the losses of the blocks. Scores are squared, which changes no order."""
    b = len(G)
    lam = damping * sum(G[j][j] for j in range(b)) / b
    H = [[G[i][j] + (lam if i == j else 0) for j in range(b)] for i in range(b)]
    rows = ordinary(W, G, pattern)
    width = b if isinstance(pattern, Structured) else block_size
    current, removed, losses = [list(row) for row in W], 0, []
    for j1 in range(0, b, width):
        j2 = min(j1 + width, b)
        picks = block_picks(current, G, pattern, rows, (j1, j2), removed)
        removed += len(picks)
        before = current
        current = [
            best_row(row, [j for i, j in picks if i == number], H, j1)
            for number, row in enumerate(current)
        ]
        losses.append(loss(before, current, H))
    return current, losses


def ordinary(W: Matrix, G: Matrix, pattern: Pattern) -> list[int]:
    """The rows that are no outliers."""
    if isinstance(pattern, Unstructured):
        return list(range(len(W)))
    b = len(G)
    h = [sum(row[j] * G[j][k] * row[k] for j in range(b) for k in range(b)) for row in W]
    largest_first = sorted(range(len(W)), key=lambda i: (-h[i], i))
    return sorted(largest_first[ceil(pattern.outlier_rows * len(W)) :])


def block_picks(
    W: Matrix,
    G: Matrix,
    pattern: Pattern,
    rows: list[int],
    block: tuple[int, int],
    removed: int,
) -> list[tuple[int, int]]:
    """The weights that go in a block."""
    b, (j1, j2) = len(G), block

    def score(place: tuple[int, int]) -> Fraction:
        return W[place[0]][place[1]] ** 2 * G[place[1]][place[1]]

    if isinstance(pattern, Unstructured):
        r = floor(pattern.sparsity * len(W) * b) - removed
        left = sorted(((i, j) for i in rows for j in range(j1, b)), key=lambda p: (score(p), p))
        return [place for place in left[:r] if place[1] < j2]
    if isinstance(pattern, SemiStructured):
        picks = []
        for i in rows:
            for g in range(j1, j2, pattern.m):
                group = sorted(((i, g + k) for k in range(pattern.m)), key=lambda p: (score(p), p))
                picks += group[: pattern.n]
        return picks
    s = ceil(pattern.sparsity * b / (1 - pattern.outlier_rows))
    v = {j: sum(score((i, j)) for i in rows) for j in range(b)}
    columns = sorted(v, key=lambda j: (v[j], j))[:s]
    return [(i, j) for i in rows for j in columns]
