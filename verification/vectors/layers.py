"""The layers that the vectors are made of."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.patterns import Pattern, SemiStructured, parse_pattern
from verification.catalogue import HardInput, catalogue, whole_numbers
from verification.conformance.capabilities import METHODS
from verification.vectors.close import close_scores
from verification.vectors.counts import exact_counts, spelled_decimals
from verification.vectors.first import first_five
from verification.vectors.special import Special, specials

# Catalogue entries that rounding to half precision can spoil, each in another way.
STORED = (
    "dead columns",
    "equal columns",
    "half-precision ties",
    "ragged last block",
    "loud column",
)
# Large layers show errors of whole blocks and groups; n is not half of m.
LARGE_PATTERNS = {
    "thanos": (
        "unstructured:0.29", "unstructured:0.71", "1:4", "5:8+outliers:0.13",
        "structured:0.37", "structured:0.37+outliers:0.1",
    ),
    "sparsegpt": ("unstructured:0.29", "3:4", "structured:0.37"),
    "wanda": ("unstructured:0.29", "3:4", "structured:0.37"),
    "magnitude": ("unstructured:0.29", "3:4", "structured:0.37"),
}  # fmt: skip


@dataclass(frozen=True)
class VectorLayer:
    """The input of one pruning case.

    name     part of the case's id
    pattern  its text form
    flags    keys of FLAGS: what is hard about it
    """

    name: str
    method: str
    pattern: str
    weight: NDArray[np.floating[Any]]
    gram: NDArray[np.floating[Any]]
    block_size: int
    damping: float
    dtype: str
    storage: str | None
    flags: tuple[str, ...]

    @property
    def id(self) -> str:
        """`method-type-name-kind`."""
        kind = _kind(parse_pattern(self.pattern))
        return f"{self.method}-{self.storage or self.dtype}-{self.name}-{kind}"


def layers() -> Iterator[VectorLayer]:
    """The first five, then the catalogue, in float64, float32 and narrow storage, and others."""
    yield from _made(first_five(), "float64")
    for dtype in ("float64", "float32"):
        yield from _catalogue(dtype, None)
    for storage in ("float16", "bfloat16"):
        yield from _catalogue("float32", storage)
    for dtype in ("float64", "float32"):
        yield from _large(dtype)
        special = chain(specials(), exact_counts(), spelled_decimals(), close_scores())
        yield from _made(special, dtype)


def _catalogue(dtype: str, storage: str | None) -> Iterator[VectorLayer]:
    for hard in catalogue(dtype):
        if storage and hard.name not in STORED:
            continue
        if storage == "bfloat16":
            hard = replace(hard, weight=_eight_bits(hard.weight))
        flags = (hard.name.replace(" ", "-"), *(("storage",) if storage else ()))
        for method in METHODS:
            for pattern in hard.patterns():
                if method != "thanos" and getattr(pattern, "outlier_rows", False):
                    continue  # the baselines refuse them
                name = f"{hard.number:02d}"
                yield _layer(hard, name, method, str(pattern), dtype, flags, storage)


def _large(dtype: str) -> Iterator[VectorLayer]:
    for number, (method, patterns) in enumerate(LARGE_PATTERNS.items(), start=1):
        rng = Random(1000 + number)
        weight = whole_numbers(rng, (18, 48), 2**16 - 1) / 2**14
        X = whole_numbers(rng, (48, 90), 8)
        X += whole_numbers(rng, (48, 1), 2) * whole_numbers(rng, (1, 90), 4)  # a common cause
        X[7] *= 32  # and one loud column
        block_size = 16 if number % 2 else 32  # 32: the last block is ragged
        large = Special("large", "large", weight, X @ X.T, patterns, block_size, 2.0**-6)
        for pattern in patterns:
            name = f"large-{_text(parse_pattern(pattern))}"
            yield _layer(large, name, method, pattern, dtype, (large.flag,))


def _made(specials: Iterable[Special], dtype: str) -> Iterator[VectorLayer]:
    for special in specials:
        for method in special.methods if dtype in special.dtypes else ():
            for pattern in special.patterns:
                yield _layer(special, special.name, method, pattern, dtype, (special.flag,))


def _layer(
    source: HardInput | Special,
    name: str,
    method: str,
    pattern: str,
    dtype: str,
    flags: tuple[str, ...],
    storage: str | None = None,
) -> VectorLayer:
    weight, gram = source.weight.astype(dtype), source.gram.astype(dtype)
    block_size, damping = source.block_size, source.damping
    return VectorLayer(
        name, method, pattern, weight, gram, block_size, damping, dtype, storage, flags
    )


def _eight_bits(weight: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Weights below 4 rounded to a grid of 1/64, which bfloat16 represents exactly."""
    sizes = np.maximum(np.floor(np.abs(weight) * 64), 1) / 64
    rounded: NDArray[np.floating[Any]] = (np.sign(weight) * sizes).astype(weight.dtype)
    return rounded


def _kind(pattern: Pattern) -> str:
    kind = {"Unstructured": "unstructured", "SemiStructured": "nm", "Structured": "structured"}[
        type(pattern).__name__
    ]
    return f"{kind}-outliers" if getattr(pattern, "outlier_rows", 0) else kind


def _text(pattern: Pattern) -> str:
    """The part of an id that tells patterns of one kind apart."""
    if isinstance(pattern, SemiStructured):
        return f"{pattern.n}of{pattern.m}"
    return f"{round(100 * float(pattern.sparsity))}"
