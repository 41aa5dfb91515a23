"""Sparsity patterns: what is removed, counted exactly; and the switches of `thanos`. Spec 2, 7.

The one module that all three parts of the project share: it holds vocabulary and counting, no
numerics. Shares are kept as exact fractions of the decimal that the user typed, so that
0.29 of 100 columns is 29 and not 28.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor
from typing import TypeAlias

Share: TypeAlias = float | str | Decimal | Fraction


@dataclass(frozen=True, init=False)
class Unstructured:
    """Remove `floor(sparsity * c * b)` weights, wherever they are."""

    sparsity: Fraction

    def __init__(self, sparsity: Share) -> None:
        object.__setattr__(self, "sparsity", _share("sparsity", sparsity))

    def __str__(self) -> str:
        return f"unstructured:{_decimal(self.sparsity)}"

    def check(self, rows: int, columns: int, block_size: int) -> None:
        """Refuse what does not fit a (rows, columns) weight; ValueError names the argument."""
        _check_block_size(block_size)

    def removed(self, weights: int) -> int:
        """How many of `weights` weights go: floor(p * weights)."""
        return floor(self.sparsity * weights)


@dataclass(frozen=True, init=False)
class SemiStructured:
    """Remove exactly `n` of every aligned group of `m` columns of a row; n counts the ZEROS."""

    n: int
    m: int
    outlier_rows: Fraction

    def __init__(self, n: int, m: int, outlier_rows: Share = 0.0) -> None:
        _whole("m", m)
        if m < 1:
            raise ValueError(f"m must be at least 1, got {m}")
        _whole("n", n)
        if not 0 <= n <= m:
            raise ValueError(f"n must lie in [0, m] = [0, {m}], got {n}")
        object.__setattr__(self, "n", int(n))
        object.__setattr__(self, "m", int(m))
        object.__setattr__(self, "outlier_rows", _share("outlier_rows", outlier_rows))

    def __str__(self) -> str:
        return f"{self.n}:{self.m}{_outlier_text(self.outlier_rows)}"

    def check(self, rows: int, columns: int, block_size: int) -> None:
        """Refuse what does not fit a (rows, columns) weight; ValueError names the argument."""
        _check_block_size(block_size)
        if columns % self.m:
            raise ValueError(f"m = {self.m} does not divide the {columns} columns of the weight")
        if block_size < columns and block_size % self.m:
            raise ValueError(f"block_size must be a multiple of m = {self.m}, got {block_size}")

    def outliers(self, rows: int) -> int:
        """How many of `rows` rows stay untouched: ceil(alpha * rows)."""
        return ceil(self.outlier_rows * rows)


@dataclass(frozen=True, init=False)
class Structured:
    """Remove whole columns from all rows but the outlier rows."""

    sparsity: Fraction
    outlier_rows: Fraction

    def __init__(self, sparsity: Share, outlier_rows: Share = 0.0) -> None:
        object.__setattr__(self, "sparsity", _share("sparsity", sparsity))
        object.__setattr__(self, "outlier_rows", _share("outlier_rows", outlier_rows))

    def __str__(self) -> str:
        return f"structured:{_decimal(self.sparsity)}{_outlier_text(self.outlier_rows)}"

    def check(self, rows: int, columns: int, block_size: int) -> None:
        """Refuse what does not fit a (rows, columns) weight; ValueError names the argument."""
        _check_block_size(block_size)
        if self.removed(columns) > columns:
            raise ValueError(
                f"sparsity = {_decimal(self.sparsity)} with outlier_rows = "
                f"{_decimal(self.outlier_rows)} would remove {self.removed(columns)} columns "
                f"of {columns}"
            )

    def outliers(self, rows: int) -> int:
        """How many of `rows` rows stay untouched: ceil(alpha * rows)."""
        return ceil(self.outlier_rows * rows)

    def removed(self, columns: int) -> int:
        """How many columns the other rows lose: ceil(p * columns / (1 - alpha))."""
        return ceil(self.sparsity * columns / (1 - self.outlier_rows))


Pattern: TypeAlias = Unstructured | SemiStructured | Structured

_TEXT_FORM = re.compile(
    r"(?:unstructured:(?P<unstructured>[^:]+)"
    r"|(?P<n>\d{1,9}):(?P<m>\d{1,9})(?:\+outliers:(?P<nm_outliers>[^:]+))?"
    r"|structured:(?P<structured>[^:]+?)(?:\+outliers:(?P<outliers>[^:]+))?)",
    re.ASCII,
)


# A decimal, or the quotient that a Python Fraction is written as. An exponent of five digits would
# take a fraction of thousands of digits: surely a mistake.
_SHARE = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?|\d+/\d+)", re.ASCII)


def parse_pattern(text: str) -> Pattern:
    """Read the text form: `unstructured:0.5`, `2:4+outliers:0.1`, `structured:0.3`, ...

    In `n:m`, n counts the zeros of every group of m, as in the paper. Raises ValueError.
    """
    found = _TEXT_FORM.fullmatch(text)
    if found is None:
        raise ValueError(
            f"pattern must look like unstructured:0.5, 2:4, 2:4+outliers:0.1, structured:0.3 "
            f"or structured:0.3+outliers:0.1, got {text!r}"
        )
    if found["unstructured"]:
        return Unstructured(found["unstructured"])
    if found["structured"]:
        return Structured(found["structured"], found["outliers"] or "0")
    return SemiStructured(int(found["n"]), int(found["m"]), found["nm_outliers"] or "0")


def refuse_outlier_rows(method: str, pattern: Pattern) -> None:
    """The baselines know no outlier rows: ValueError if `pattern` has some. Spec section 6."""
    if not isinstance(pattern, Unstructured) and pattern.outlier_rows > 0:
        raise ValueError(
            f"outlier_rows must be 0 for {method}, got {_decimal(pattern.outlier_rows)}"
        )


# What the switches of `thanos` may be, spec section 7; the first is what the paper does.
SWITCHES: dict[str, tuple[bool | str, ...]] = {
    "adaptive": (True, False),
    "residual": ("global", "local"),
    "update": ("joint", "sequential"),
    "metric": ("wanda", "magnitude", "obs"),
    "outlier_score": ("output", "wanda"),
}


@dataclass(frozen=True)
class Ablation:
    """The switches of `thanos`; without one it is the paper's algorithm. Spec section 7.

    adaptive       False: all masks from the scores at the start, J = all columns
    residual       "local": every block removes its own share of an unstructured count
    update         "sequential": SparseGPT's update instead of (6)
    metric         "magnitude", |W|, or "obs", W²/((H_JJ)⁻¹)_jj, instead of (2), "wanda"
    outlier_score  "wanda": outlier rows by Σ_j W_ij² G_jj instead of h_i, "output"
    """

    adaptive: bool = True
    residual: str = "global"
    update: str = "joint"
    metric: str = "wanda"
    outlier_score: str = "output"

    def check(self) -> None:
        """Refuse a value that does not exist; ValueError names the switch."""
        for name, choices in SWITCHES.items():
            value = getattr(self, name)
            if value not in choices:
                known = ", ".join(map(str, choices))
                raise ValueError(f"{name} must be one of {known}, got {value!r}")

    def changed(self) -> dict[str, bool | str]:
        """The switches that are not as in the paper, by name."""
        return {name: value for name, value in vars(self).items() if value != SWITCHES[name][0]}


def refuse_switches(method: str, ablation: Ablation) -> None:
    """The baselines have no switches: ValueError if one is not as in the paper. Spec section 7."""
    changed = ablation.changed()
    if changed:
        name, value = next(iter(changed.items()))
        raise ValueError(f"{name} must be {SWITCHES[name][0]} for method {method}, got {value!r}")


def column_blocks(columns: int, block_size: int) -> Iterator[tuple[int, int]]:
    """Borders (j1, j2) of the blocks of columns, left to right; the last may be narrower."""
    for start in range(0, columns, block_size):
        yield start, min(start + block_size, columns)


def _share(argument: str, value: Share) -> Fraction:
    """The decimal that the user typed, as an exact fraction in [0, 1)."""
    text = str(value)  # of a float: the shortest decimal that reads back as it, hence as typed
    try:
        if not _SHARE.fullmatch(text):
            raise ValueError
        share = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{argument} must be a number in [0, 1), got {value!r}") from None
    if not 0 <= share < 1:
        raise ValueError(f"{argument} must lie in [0, 1), got {value!r}")
    return share


def _whole(argument: str, value: int) -> None:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ValueError(f"{argument} must be a whole number, got {value!r}")


def _check_block_size(block_size: int) -> None:
    _whole("block_size", block_size)
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")


def _decimal(share: Fraction) -> str:
    """The share as the shortest exact decimal, or as a fraction where there is none."""
    for digits in range(20):
        if share * 10**digits == int(share * 10**digits):
            return f"{Decimal(int(share * 10**digits)).scaleb(-digits):f}"
    return f"{share}"


def _outlier_text(outlier_rows: Fraction) -> str:
    return f"+outliers:{_decimal(outlier_rows)}" if outlier_rows else ""
