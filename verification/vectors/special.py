"""Layers made for one rule each, whose violation the catalogue does not show."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from verification.catalogue import whole_numbers

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Special:
    """One layer for some methods; `name` is part of the case's id, `flag` a key of FLAGS."""

    name: str
    flag: str
    weight: Matrix
    gram: Matrix
    patterns: tuple[str, ...]
    block_size: int = 4
    damping: float = 2.0**-7
    methods: tuple[str, ...] = ("thanos",)
    dtypes: tuple[str, ...] = ("float64", "float32")


def specials() -> Iterator[Special]:
    """All of them."""
    small = np.arange(1.0, 9.0).reshape(2, 4)
    diagonal = np.diag([1.0, 2.0, 3.0, 4.0])
    # ⌈0.6 · 2⌉ rows are all rows.
    nothing = ("unstructured:0.1", "0:4", "1:4+outliers:0.6", "structured:0.25+outliers:0.6")
    yield Special("nothing", "nothing-removed", small, diagonal, nothing)
    yield from _nearly_symmetric(small)
    yield _tied_rows(diagonal)
    yield _loud_weights_on_quiet_inputs()
    yield from _ties_in_other_units()


def asymmetric(scale: float, difference: float) -> Matrix:
    """G whose first two columns, of norm √scale, differ in one entry by difference · scale."""
    G = np.diag([1.0, 1.0, 4.0, 4.0])
    G[0, 2] = G[2, 0] = 0.5
    G[0, 1] = difference
    return G * scale


# Scales at which the limit of asymmetry, which is relative, is tested.
SCALES: dict[str, float] = {"small": 2.0**-20, "unit": 1.0, "large": 2.0**20}


def _nearly_symmetric(weight: Matrix) -> Iterator[Special]:
    """Asymmetry of 2⁻¹⁷, below the 1e-5 that section 2 accepts; 2⁻¹⁶ is above it."""
    for name, scale in SCALES.items():
        gram = asymmetric(scale, 2.0**-17)
        yield Special(
            f"asymmetric-{name}", "nearly-symmetric", weight, gram, ("unstructured:0.375",), 2
        )


def _tied_rows(gram: Matrix) -> Special:
    """Rows of two sizes only, so that the index decides which ones become outlier rows."""
    row = np.array([[1.0, 2.0, 3.0, 4.0]])
    sizes = np.array([[2.0 if i % 3 == 0 else 1.0] for i in range(12)])
    signs = np.array([[1.0 if i % 2 == 0 else -1.0] for i in range(12)])
    patterns = ("2:4+outliers:0.5", "structured:0.25+outliers:0.5")
    return Special("tied-rows", "tied-outlier-rows", sizes * signs * row, gram, patterns)


def _loud_weights_on_quiet_inputs() -> Special:
    """The first row is the largest under H, and the smallest under G."""
    rng = Random(2000)
    weight = whole_numbers(rng, (4, 8), 255) / 256
    X = whole_numbers(rng, (8, 20), 12) / 4
    weight[0, :4] += np.where(weight[0, :4] > 0, 16.0, -16.0)
    weight[0, 4:] /= 256
    X[:4] /= 64
    patterns = ("2:4+outliers:0.25", "structured:0.25+outliers:0.25")
    return Special("quiet-inputs", "outliers-by-inputs", weight, X @ X.T, patterns, 4, 1.0)


# Norms of two columns each. Weights times norms tie; times √2 the second product is smaller, by
# rounding, in float64 (the first three pairs) or in float32 (the others).
_PAIRS = ((1, 3), (2, 3), (1, 11), (9, 1), (13, 2))


def _ties_in_other_units() -> Iterator[Special]:
    """Ties that an odd power of two breaks as a unit of G. The last columns decide its parity."""
    for last in (1, 12):
        norms = np.array([norm for pair in (*_PAIRS, (last, last)) for norm in pair], float)
        row = np.array([norm for pair in _PAIRS for norm in reversed(pair)] + [1, 2], float)
        weight = row * np.array([[1.0], [-2.0]])
        gram, one_block = np.diag(norms**2), len(norms)
        yield Special(f"units-{last}", "ties-in-units", weight, gram, ("1:2",), one_block)
