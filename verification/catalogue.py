"""The numbered catalogue of hard inputs: layers on which a pruning code is likely to break.

NumPy alone, the same numbers on every run. Entries keep their numbers for good; new ones are
appended. Every entry is a legal layer: spec section 2 refuses none of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.patterns import Pattern, SemiStructured, Structured, Unstructured

Array = NDArray[np.float64]


@dataclass(frozen=True)
class HardInput:
    """One layer of the catalogue.

    number      stable, from 1
    name        what is hard about it
    weight      (c, b), in the arithmetic that the catalogue was asked for
    gram        (b, b), G = X Xᵀ, in the same
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
    """What is extreme for an arithmetic: unit roundoff; exponents of W and G at the ends.

    The ends leave room for what every implementation has to hold: the losses, W² G, in float64,
    and entries a thousandfold smaller than the largest as normal numbers.
    """

    dtype: type[np.floating[Any]]
    u: float
    small: int
    large: int


_LIMITS = {
    "float64": _Limits(np.float64, 2.0**-53, -320, 330),
    "float32": _Limits(np.float32, 2.0**-24, -100, 120),
}

# (W, X or G, γ, B) before rounding to the arithmetic
_Layer = tuple[Array, Array, float, int]
_Maker = Callable[[np.random.Generator, _Limits], _Layer]


def catalogue(arithmetic: str = "float64") -> tuple[HardInput, ...]:
    """All entries, for an implementation that computes in "float64" or "float32".

    Raises ValueError for another arithmetic.
    """
    if arithmetic not in _LIMITS:
        raise ValueError(f"arithmetic must be float64 or float32, got {arithmetic!r}")
    limits = _LIMITS[arithmetic]
    entries = []
    for number, (name, make) in enumerate(_MAKERS, start=1):
        weight, gram, damping, block_size = make(np.random.default_rng(number), limits)
        entries.append(
            HardInput(
                number,
                name,
                weight.astype(limits.dtype),
                gram.astype(limits.dtype),
                damping,
                block_size,
            )
        )
    return tuple(entries)


def _weight(rng: np.random.Generator, rows: int = 5, columns: int = 16) -> Array:
    return rng.standard_normal((rows, columns))


def _gram(rng: np.random.Generator, columns: int = 16, tokens: int = 40) -> Array:
    X = rng.standard_normal((columns, tokens))
    return X @ X.T


def _zero_weight(rng: np.random.Generator, _: _Limits) -> _Layer:
    return np.zeros((5, 16)), _gram(rng), 0.01, 8


def _zero_gram(rng: np.random.Generator, _: _Limits) -> _Layer:
    return _weight(rng), np.zeros((16, 16)), 0.01, 8


def _dead_columns(rng: np.random.Generator, _: _Limits) -> _Layer:
    X = rng.standard_normal((16, 40))
    X[[0, 5, 6, 15]] = 0.0
    return _weight(rng), X @ X.T, 0.01, 8


def _few_tokens(rng: np.random.Generator, _: _Limits) -> _Layer:
    return _weight(rng), _gram(rng, tokens=3), 0.01, 8


def _equal_columns(rng: np.random.Generator, _: _Limits) -> _Layer:
    W, X = _weight(rng), rng.standard_normal((16, 40))
    for copy, column in ((3, 2), (9, 2), (12, 11)):
        W[:, copy], X[copy] = W[:, column], X[column]
    return W, X @ X.T, 0.01, 8


def _half_precision_ties(rng: np.random.Generator, _: _Limits) -> _Layer:
    # Weights on a grid of 1/4, inputs ±1: every column has the same norm, and all is exact.
    W = rng.integers(-4, 5, (5, 16)) / 4
    X = rng.choice([-1.0, 1.0], (16, 64))
    return W, X @ X.T, 0.01, 8


def _conditioned(rng: np.random.Generator, condition: float) -> _Layer:
    # A Gram matrix of low rank: λ is the smallest eigenvalue of H, and γ sets its condition.
    G = _gram(rng, tokens=10)
    lam = np.linalg.eigvalsh(G)[-1] / (condition - 1)
    return _weight(rng), G, float(lam / np.mean(np.diag(G))), 8


def _condition_root(rng: np.random.Generator, limits: _Limits) -> _Layer:
    return _conditioned(rng, limits.u**-0.5)


def _condition_full(rng: np.random.Generator, limits: _Limits) -> _Layer:
    return _conditioned(rng, 0.1 / limits.u)


def _underflow(rng: np.random.Generator, limits: _Limits) -> _Layer:
    return _weight(rng) * 2.0**limits.small, _gram(rng) * 2.0**limits.small, 0.01, 8


def _overflow(rng: np.random.Generator, limits: _Limits) -> _Layer:
    return _weight(rng) * 2.0**limits.large, _gram(rng) * 2.0**limits.large, 0.01, 8


def _one_row(rng: np.random.Generator, _: _Limits) -> _Layer:
    return _weight(rng, rows=1), _gram(rng), 0.01, 8


def _one_column(rng: np.random.Generator, _: _Limits) -> _Layer:
    return _weight(rng, columns=1), _gram(rng, columns=1), 0.01, 8


def _ragged_block(rng: np.random.Generator, _: _Limits) -> _Layer:
    return _weight(rng, columns=20), _gram(rng, columns=20), 0.01, 8


def _narrow_blocks(rng: np.random.Generator, _: _Limits) -> _Layer:
    return _weight(rng), _gram(rng), 0.01, 1


def _wide_block(rng: np.random.Generator, _: _Limits) -> _Layer:
    return _weight(rng), _gram(rng), 0.01, 17


def _one_weight(rng: np.random.Generator, _: _Limits) -> _Layer:
    return _weight(rng, rows=1, columns=1), _gram(rng, columns=1), 0.01, 8


def _loud_column(rng: np.random.Generator, _: _Limits) -> _Layer:
    # An outlier feature, as language models have them: it makes ‖H‖ and λ large.
    X = rng.standard_normal((16, 40))
    X[6] *= 1000.0
    return _weight(rng), X @ X.T, 0.01, 8


_MAKERS: tuple[tuple[str, _Maker], ...] = (
    ("zero weight", _zero_weight),
    ("zero gram", _zero_gram),
    ("dead columns", _dead_columns),
    ("fewer tokens than columns", _few_tokens),
    ("equal columns", _equal_columns),
    ("half-precision ties", _half_precision_ties),
    ("condition 1 over root u", _condition_root),
    ("condition 0.1 over u", _condition_full),
    ("near underflow", _underflow),
    ("near overflow", _overflow),
    ("one row", _one_row),
    ("one column", _one_column),
    ("ragged last block", _ragged_block),
    ("blocks of one column", _narrow_blocks),
    ("block wider than the layer", _wide_block),
    ("one weight", _one_weight),
    ("loud column", _loud_column),
)
