"""Layers whose counts floating point gets wrong, and patterns that are spelled unusually."""

import re
from collections.abc import Iterator
from dataclasses import replace
from random import Random

from verification.catalogue import whole_numbers
from verification.conformance.capabilities import METHODS
from verification.vectors.special import Special

# Pattern, c, b, B, methods. In each the count of exact arithmetic differs from that of float64:
# 0.58 · 50 is rounded down to 28, 0.28 · 25 up to 8, 0.28 · 10 / (1 - 0.3) up to 5. Decimals of 17
# digits are 0.3, 0.2 and 0.4 in float64, and no correction by a small number mends their counts.
_COUNTS: tuple[tuple[str, int, int, int, tuple[str, ...]], ...] = (
    ("unstructured:0.29", 5, 20, 10, ("thanos", "magnitude")),
    ("unstructured:0.58", 5, 10, 5, ("thanos", "magnitude", "sparsegpt")),
    ("unstructured:0.58", 2, 50, 50, ("wanda",)),
    ("unstructured:0.29999999999999999", 5, 10, 4, METHODS),
    ("structured:0.28", 2, 25, 25, METHODS),
    ("structured:0.30000000000000001", 5, 10, 5, METHODS),
    ("structured:0.28+outliers:0.3", 5, 10, 5, ("thanos",)),
    ("structured:0.30000000000000001+outliers:0.4", 4, 10, 5, ("thanos",)),
    ("structured:0.3+outliers:0.40000000000000001", 4, 10, 5, ("thanos",)),
    ("1:2+outliers:0.28", 25, 4, 2, ("thanos",)),
    ("structured:0.25+outliers:0.28", 25, 4, 2, ("thanos",)),
    ("1:2+outliers:0.20000000000000001", 5, 4, 2, ("thanos",)),
    ("structured:0.25+outliers:0.20000000000000001", 5, 4, 2, ("thanos",)),
)
# Name, pattern, methods. All are legal, and written as few programs write them.
_SPELLED: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("exponent", "unstructured:5e-1", METHODS),
    ("no-digit-before", "unstructured:.5", METHODS),
    ("no-digit-after", "unstructured:0.", ("thanos",)),
    ("sign", "unstructured:+0.5", ("thanos",)),
    ("upper-case", "unstructured:0.05E+1", ("thanos",)),
    ("negative-zero", "unstructured:-0", ("thanos",)),
    ("four-digits", "unstructured:50.e-0002", ("thanos",)),
    ("columns", "structured:2.5E-1+outliers:.25", ("thanos",)),
    ("groups", "1:2+outliers:+2.5e-1", ("thanos",)),
    ("leading-zeros", "002:0004", ("thanos",)),
)


def exact_counts() -> Iterator[Special]:
    """A layer for each of _COUNTS."""
    for number, (pattern, rows, columns, block_size, methods) in enumerate(_COUNTS):
        numbers = "-".join(re.findall(r"\d[\d.]*", pattern.replace("1:2+", "")))
        name = f"count-{numbers}-{rows}x{columns}"
        yield _layer(
            name, "exact-count", 3000 + number, (rows, columns), pattern, block_size, methods
        )


def spelled_decimals() -> Iterator[Special]:
    """One layer, once for each of _SPELLED; in float32 for Thanos only."""
    for name, pattern, methods in _SPELLED:
        layer = _layer(f"spelled-{name}", "spelled-decimal", 3100, (4, 8), pattern, 4, methods)
        yield replace(layer, dtypes=("float64",))
        yield replace(layer, dtypes=("float32",), methods=("thanos",))


def _layer(
    name: str,
    flag: str,
    seed: int,
    shape: tuple[int, int],
    pattern: str,
    block_size: int,
    methods: tuple[str, ...],
) -> Special:
    rng = Random(seed)
    weight = whole_numbers(rng, shape, 2047) / 512
    X = whole_numbers(rng, (shape[1], shape[1] + 6), 8) / 4
    return Special(name, flag, weight, X @ X.T, (pattern,), block_size, methods=methods)
