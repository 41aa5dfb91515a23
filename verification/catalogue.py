"""The numbered catalogue of hard inputs: layers on which pruning code is likely to fail.

The entries are integers over powers of two with few bits. Gram matrices are therefore exact in
every order of summation, even in float32, and equal on every machine. Entries keep their numbers;
new ones are appended. Every entry is a legal layer by spec section 2.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import reference  # noqa: F401 - before NumPy: reference/threads.py

# isort: split
import numpy as np
from numpy.typing import NDArray

from reference.patterns import Pattern, SemiStructured, Structured, Unstructured

Array = NDArray[np.float64]

DAMPING = 2.0**-7  # near the usual 0.01, and dyadic


@dataclass(frozen=True)
class HardInput:
    """One layer of the catalogue.

    number      stable number, from 1
    name        what is hard about it
    weight      (c, b), in the arithmetic of the catalogue
    gram        (b, b), G = X Xᵀ, in the same arithmetic
    damping     γ
    block_size  B
    """

    number: int
    name: str
    weight: NDArray[np.floating[Any]]
    gram: NDArray[np.floating[Any]]
    damping: float
    block_size: int

    def __str__(self) -> str:
        return f"{self.number:02d}-{self.name.replace(' ', '-')}"

    def patterns(self) -> tuple[Pattern, ...]:
        """One pattern of each kind, with and without outlier rows, that fits the layer."""
        columns = self.weight.shape[1]
        width = min(self.block_size, columns)
        m = next(m for m in (4, 2, 1) if columns % m == 0 and width % m == 0)
        n = (m + 1) // 2
        return (
            Unstructured(0.5),
            SemiStructured(n, m),
            SemiStructured(n, m, outlier_rows=0.2),
            Structured(0.3),
            Structured(0.3, outlier_rows=0.2),
        )


@dataclass(frozen=True)
class _Limits:
    """Extremes of an arithmetic: unit roundoff, and smallest and largest exponents of W and G.

    The exponents leave room for numbers that every implementation needs: losses, W² G, in float64,
    and entries a thousandth of the largest as normal numbers.
    """

    dtype: type[np.floating[Any]]
    u: float
    small: int
    large: int


_LIMITS = {
    "float64": _Limits(np.float64, 2.0**-53, -320, 330),
    "float32": _Limits(np.float32, 2.0**-24, -100, 118),
}

# (W, G, γ, B) in float64; the conversion to the arithmetic is exact
_Layer = tuple[Array, Array, float, int]
_Maker = Callable[[Random, _Limits], _Layer]


def catalogue(arithmetic: str = "float64") -> tuple[HardInput, ...]:
    """All entries in "float64" or "float32". Raises ValueError for another arithmetic."""
    if arithmetic not in _LIMITS:
        raise ValueError(f"arithmetic must be float64 or float32, got {arithmetic!r}")
    limits = _LIMITS[arithmetic]
    entries = []
    for number, (name, make) in enumerate(_MAKERS, start=1):
        weight, gram, damping, block_size = make(Random(number), limits)
        weight, gram = weight.astype(limits.dtype), gram.astype(limits.dtype)
        entries.append(HardInput(number, name, weight, gram, damping, block_size))
    return tuple(entries)


def whole_numbers(rng: Random, shape: tuple[int, int], largest: int) -> Array:
    """Random whole numbers of absolute value 1 to `largest`, as float64.

    Only `random()` is used, whose numbers are the same in every version of Python.
    """
    count = shape[0] * shape[1]
    sizes = [1 + int(rng.random() * largest) for _ in range(count)]
    return np.array([size if rng.random() < 0.5 else -size for size in sizes], float).reshape(shape)


def _weight(rng: Random, rows: int = 5, columns: int = 16) -> Array:
    # Eleven bits, which float16 holds.
    return whole_numbers(rng, (rows, columns), 2047) / 512


def _inputs(rng: Random, columns: int = 16, tokens: int = 40) -> Array:
    return whole_numbers(rng, (columns, tokens), 12) / 4


def _gram(rng: Random, columns: int = 16, tokens: int = 40) -> Array:
    X = _inputs(rng, columns, tokens)
    return np.asarray(X @ X.T)


def _ordinary(rows: int = 5, columns: int = 16, tokens: int = 40, block_size: int = 8) -> _Maker:
    """Makes layers that are hard by their sizes alone."""

    def make(rng: Random, _: _Limits) -> _Layer:
        return _weight(rng, rows, columns), _gram(rng, columns, tokens), DAMPING, block_size

    return make


def _dead_columns(rng: Random, _: _Limits) -> _Layer:
    X = _inputs(rng)
    X[[0, 5, 6, 15]] = 0.0
    return _weight(rng), X @ X.T, DAMPING, 8


def _equal_columns(rng: Random, _: _Limits) -> _Layer:
    W, X = _weight(rng), _inputs(rng)
    for copy, column in ((3, 2), (9, 2), (12, 11)):
        W[:, copy], X[copy] = W[:, column], X[column]
    return W, X @ X.T, DAMPING, 8


def _half_precision_ties(rng: Random, _: _Limits) -> _Layer:
    # Weights on a grid of 1/4, inputs ±1: every column has the same norm, and all is exact.
    W = whole_numbers(rng, (5, 16), 4) / 4
    X = whole_numbers(rng, (16, 64), 1)
    return W, X @ X.T, DAMPING, 8


def _conditioned(rng: Random, condition: float) -> _Layer:
    # A Gram matrix of low rank: λ is the smallest eigenvalue of H, and γ, a power of two, brings
    # its condition number to within a factor of two.
    G = _gram(rng, tokens=10)
    exact = float(np.linalg.eigvalsh(G)[-1]) / condition / float(np.mean(np.diag(G)))
    return _weight(rng), G, 2.0 ** round(np.log2(exact)), 8


def _scaled(rng: Random, exponent: int) -> _Layer:
    return _weight(rng) * 2.0**exponent, _gram(rng) * 2.0**exponent, DAMPING, 8


def _loud_column(rng: Random, _: _Limits) -> _Layer:
    # An outlier feature, as language models have them: it makes ‖H‖ and λ large.
    X = _inputs(rng)
    X[6] *= 64.0
    return _weight(rng), X @ X.T, DAMPING, 8


_MAKERS: tuple[tuple[str, _Maker], ...] = (
    ("zero weight", lambda rng, _: (np.zeros((5, 16)), _gram(rng), DAMPING, 8)),
    ("zero gram", lambda rng, _: (_weight(rng), np.zeros((16, 16)), DAMPING, 8)),
    ("dead columns", _dead_columns),
    ("fewer tokens than columns", _ordinary(tokens=3)),
    ("equal columns", _equal_columns),
    ("half-precision ties", _half_precision_ties),
    ("condition 1 over root u", lambda rng, limits: _conditioned(rng, limits.u**-0.5)),
    ("condition 0.1 over u", lambda rng, limits: _conditioned(rng, 0.1 / limits.u)),
    ("near underflow", lambda rng, limits: _scaled(rng, limits.small)),
    ("near overflow", lambda rng, limits: _scaled(rng, limits.large)),
    ("one row", _ordinary(rows=1)),
    ("one column", _ordinary(columns=1)),
    ("ragged last block", _ordinary(columns=20)),
    ("blocks of one column", _ordinary(block_size=1)),
    ("block wider than the layer", _ordinary(block_size=17)),
    ("one weight", _ordinary(rows=1, columns=1)),
    ("loud column", _loud_column),
)
