"""Exact counts, ties and the text form. Spec section 2."""

from decimal import Decimal
from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference import Pattern, SemiStructured, Structured, Unstructured, parse_pattern
from reference.masks import smallest
from reference.patterns import column_blocks
from tests.implementations import Implementation, each_implementation, each_method
from verification.strategies import KINDS, patterns

decimals = st.decimals(0, Decimal("0.9999"), places=4)


def test_what_the_user_typed_counts() -> None:
    assert int(0.29 * 100) == 28  # what binary arithmetic makes of it
    assert Unstructured(0.29).removed(100) == 29
    assert Structured(0.29).removed(100) == 29
    assert Structured(0.07).removed(100) == 7  # 0.07 * 100 is 7.000000000000001
    assert SemiStructured(2, 4, 0.07).outliers(100) == 7
    assert Structured(0.3, 0.1).removed(9) == 3  # ceil(2.7 / 0.9), with nothing to round


@given(p=decimals, count=st.integers(1, 10**6))
def test_counts_are_those_of_the_decimal(p: Decimal, count: int) -> None:
    exact = Fraction(p) * count
    for typed in (float(p), str(p), p, Fraction(p)):
        assert Unstructured(typed).removed(count) == floor(exact)
        assert Structured(typed).removed(count) == ceil(exact)
        assert SemiStructured(1, 2, typed).outliers(count) == ceil(exact)


@given(p=decimals, alpha=decimals, columns=st.integers(1, 10**6))
def test_structured_counts_make_up_for_outlier_rows(
    p: Decimal, alpha: Decimal, columns: int
) -> None:
    pattern = Structured(float(p), float(alpha))
    assert pattern.removed(columns) == ceil(Fraction(p) * columns / (1 - Fraction(alpha)))


@given(pattern=patterns(12))
def test_text_form_reads_back(pattern: Pattern) -> None:
    assert parse_pattern(str(pattern)) == pattern


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("unstructured:0.5", Unstructured(0.5)),
        ("2:4", SemiStructured(2, 4)),
        ("2:4+outliers:0.1", SemiStructured(2, 4, 0.1)),
        ("structured:0.3", Structured(0.3)),
        ("structured:0.3+outliers:0.1", Structured(0.3, 0.1)),
    ],
)
def test_text_forms_of_the_design(text: str, pattern: Pattern) -> None:
    assert parse_pattern(text) == pattern
    assert str(pattern) == text


@pytest.mark.parametrize("p", ["+0.5", ".5", "5e-1", "+5.E-1", "0.05e+1", "0.50"])
def test_every_spelling_of_a_decimal_is_exact(p: str) -> None:
    assert parse_pattern(f"unstructured:{p}") == Unstructured(p) == Unstructured(0.5)
    assert parse_pattern(f"structured:{p}+outliers:{p}") == Structured(0.5, 0.5)
    assert parse_pattern(f"2:4+outliers:{p}") == SemiStructured(2, 4, 0.5)


@pytest.mark.parametrize("p", [" 0.5", "0.5 ", "0.5_0", "0x1p-1", "5e", ".", "", "e-1", "٠.٥"])
def test_other_spellings_are_refused(p: str) -> None:
    with pytest.raises(ValueError, match="sparsity must be a number"):
        Unstructured(p)
    with pytest.raises(ValueError, match=r"sparsity|pattern"):
        parse_pattern(f"unstructured:{p}")


def test_a_share_without_decimals_reads_back() -> None:
    assert parse_pattern(str(Unstructured(Fraction(1, 3)))) == Unstructured("1/3")


@given(columns=st.integers(1, 40), width=st.integers(1, 50))
def test_blocks_tile_the_columns(columns: int, width: int) -> None:
    covered = [j for j1, j2 in column_blocks(columns, width) for j in range(j1, j2)]
    assert covered == list(range(columns))
    assert all(j2 - j1 == width for j1, j2 in list(column_blocks(columns, width))[:-1])


@each_implementation
@each_method
@pytest.mark.parametrize("kind", KINDS)
def test_ties_go_to_the_lower_index(kind: str, method: str, implementation: Implementation) -> None:
    """All weights tie, and an identity Gram matrix keeps them so."""
    weight, gram = np.ones((3, 8), implementation.dtype), np.eye(8, dtype=implementation.dtype)
    examples: dict[str, tuple[Pattern, Any]] = {
        "unstructured": (Unstructured(0.25), np.s_[:0, :0]),
        "semi-structured": (SemiStructured(1, 4), np.s_[:, ::4]),
        "structured": (Structured(0.25), np.s_[:, :2]),
    }
    pattern, where = examples[kind]
    expected = np.zeros((3, 8), dtype=bool)
    expected[where] = True
    if kind == "unstructured":
        if method == "wanda":  # two of every row
            expected[:, :2] = True
        else:  # six of the layer, row-major
            expected.reshape(-1)[:6] = True
    mask = implementation.prune(method, weight, gram, pattern).mask
    assert (mask == expected).all()


@pytest.mark.parametrize("count", [0, 1, 100, 777, 1599, 1600])
def test_smallest_is_stable_on_many_ties(count: int) -> None:
    """So many values that a sort which is stable only by accident is found out."""
    values = np.random.default_rng(0).integers(0, 5, (40, 40)).astype(float)
    flat = values.ravel().tolist()
    expected = sorted(range(len(flat)), key=lambda index: (flat[index], index))[:count]
    assert np.flatnonzero(smallest(values, count)).tolist() == sorted(expected)


@each_implementation
def test_outlier_ties_go_to_the_lower_index(implementation: Implementation) -> None:
    weight, gram = np.ones((4, 4), implementation.dtype), np.eye(4, dtype=implementation.dtype)
    mask = implementation.prune("thanos", weight, gram, SemiStructured(2, 4, 0.3)).mask
    assert mask.any(axis=1).tolist() == [False, False, True, True]


@each_implementation
@each_method
@pytest.mark.parametrize("pattern", [Unstructured(0), SemiStructured(0, 4), Structured(0)], ids=str)
def test_nothing_to_remove_returns_the_weight(
    pattern: Pattern,
    method: str,
    implementation: Implementation,
) -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((3, 8)).astype(implementation.dtype)
    weight[0, 0] = -0.0
    X = rng.standard_normal((8, 9)).astype(implementation.dtype)
    result = implementation.prune(method, weight, X @ X.T, pattern)
    assert result.weight.astype(implementation.dtype).tobytes() == weight.tobytes()
    assert not result.mask.any()


@each_implementation
@pytest.mark.parametrize(
    "pattern", [SemiStructured(2, 4, 0.9), Structured(0.1, 0.9)], ids=str
)  # ⌈0.9 · 3⌉ rows are all rows, and s = ⌈0.1 · 8 / 0.1⌉ columns are all columns
def test_nothing_is_removed_if_all_rows_are_outliers(
    pattern: Pattern, implementation: Implementation
) -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((3, 8)).astype(implementation.dtype)
    X = rng.standard_normal((8, 9)).astype(implementation.dtype)
    result = implementation.prune("thanos", weight, X @ X.T, pattern)
    assert result.weight.astype(implementation.dtype).tobytes() == weight.tobytes()
    assert not result.mask.any()


@each_implementation
def test_all_columns_may_go(implementation: Implementation) -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((4, 6)).astype(implementation.dtype)
    X = rng.standard_normal((6, 9)).astype(implementation.dtype)
    result = implementation.prune("thanos", weight, X @ X.T, Structured(0.75, 0.25))
    assert result.mask.all(axis=1).sum() == 3
    assert result.mask.sum() == 18
