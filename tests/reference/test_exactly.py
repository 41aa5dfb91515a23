"""Both implementations against exact rational arithmetic, and every mask against least squares."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from reference import Unstructured, parse_pattern
from tests.implementations import Implementation, each_float64
from tests.mathematics import best_from
from tests.ratios import check_same_numbers
from tests.reference.exact import Matrix, exact_thanos

# cond(H) is at most 1 + 6/γ = 61 here: float64 may lose two digits of sixteen.
EXACT = 1e-12

PATTERNS = [
    "unstructured:0.3",
    "unstructured:0.7",
    "1:2",
    "1:3",
    "2:3+outliers:0.3",
    "structured:0.3",
    "structured:0.4+outliers:0.3",
]


def fractions(matrix: np.ndarray) -> Matrix:
    return [[Fraction(int(value)) for value in row] for row in matrix]


def floats(matrix: Matrix) -> np.ndarray:
    return np.array([[float(value) for value in row] for row in matrix])


@each_float64
@pytest.mark.parametrize("block_size", [6, 12])
@pytest.mark.parametrize("columns", [6, 12])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_rational_arithmetic(
    pattern: str, columns: int, block_size: int, implementation: Implementation
) -> None:
    rng = np.random.default_rng(columns)
    W = rng.integers(-1000, 1000, (3, columns))  # so many values that none tie
    X = rng.integers(-9, 10, (columns, 8))
    G = X @ X.T
    expected, losses = exact_thanos(
        fractions(W), fractions(G), parse_pattern(pattern), block_size, Fraction("0.1")
    )
    result = implementation.prune(
        "thanos",
        W.astype(float),
        G.astype(float),
        parse_pattern(pattern),
        block_size=block_size,
        damping=0.1,
    )
    assert (result.mask == (floats(expected) == 0)).all()
    check_same_numbers("weight", result.weight, floats(expected), threshold=EXACT)
    check_same_numbers("losses", result.block_losses, floats([losses])[0], threshold=EXACT)


@each_float64
@pytest.mark.parametrize(("rows", "columns"), [(1, 4), (2, 3)])
def test_every_mask_of_a_tiny_layer(
    rows: int, columns: int, implementation: Implementation
) -> None:
    rng = np.random.default_rng(1)
    X = rng.standard_normal((columns, 6))
    base = rng.choice([-1.0, 1.0], (rows, columns)) * rng.uniform(1, 2, (rows, columns))
    nothing = np.zeros((rows, 0))
    masks = list(product((False, True), repeat=rows * columns))[:-1]  # p < 1 keeps one weight
    for bits in masks:
        mask = np.array(bits).reshape(rows, columns)
        weight = np.where(mask, base / 1000, base)  # so that the rule selects this mask
        pattern = Unstructured(Fraction(int(mask.sum()), mask.size))
        result = implementation.prune("thanos", weight, X @ X.T, pattern)
        assert (result.mask == mask).all()
        best = best_from(weight, mask, X, 0.01, nothing)
        check_same_numbers("weight", result.weight, best, threshold=EXACT)
