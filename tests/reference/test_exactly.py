"""Compares both implementations with exact arithmetic, and every mask with least squares."""

from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest

from reference import Unstructured, parse_pattern
from tests.implementations import METHODS, Implementation, each_float64
from tests.mathematics import best_from
from tests.ratios import check_same_numbers
from verification.exact import exact_prune

# cond(H) is at most 1 + 12/γ = 97 here: float64 may lose two digits of sixteen.
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
# The baselines refuse outlier rows.
CALLS = [
    (method, pattern)
    for method in METHODS
    for pattern in PATTERNS
    if method == "thanos" or "outliers" not in pattern
]


@each_float64
@pytest.mark.parametrize("block_size", [6, 12])
@pytest.mark.parametrize("columns", [6, 12])
@pytest.mark.parametrize(("method", "pattern"), CALLS)
def test_rational_arithmetic(
    method: str, pattern: str, columns: int, block_size: int, implementation: Implementation
) -> None:
    rng = np.random.default_rng(columns)
    W = rng.integers(-1000, 1000, (3, columns))  # so many values that none tie
    X = rng.integers(-9, 10, (columns, 8))
    G = X @ X.T
    options: dict[str, Any] = {"block_size": block_size, "damping": 0.125}
    given = W.astype(float), G.astype(float), parse_pattern(pattern)
    exact = exact_prune(*given, method=method, **options)
    expected = np.array([[float(value) for value in row] for row in exact.weight])
    result = implementation.prune(method, *given, **options)
    assert (result.mask == np.array(exact.mask)).all()
    check_same_numbers("weight", result.weight, expected, threshold=EXACT)


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
