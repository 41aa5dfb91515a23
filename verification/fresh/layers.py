"""Draws layers for every method, kind of pattern and precision."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verification.catalogue import whole_numbers
from verification.conformance.capabilities import METHODS
from verification.conformance.cases import Case
from verification.conformance.made import made_case
from verification.conformance.storage import stored
from verification.fresh.drawn import drawn_case

Matrix = NDArray[np.float64]

KINDS = ("unstructured", "nm", "structured", "nm-outliers", "structured-outliers")
# Types of the arithmetic and of stored weights.
PRECISIONS: tuple[tuple[str, str | None], ...] = (
    ("float64", None), ("float32", None), ("float32", "float16"), ("float32", "bfloat16"),
)  # fmt: skip
FEATURES = (
    "dead columns", "few tokens", "equal columns", "zero weights", "loud column", "loud row",
    "coarse grid", "nearly symmetric",
)  # fmt: skip
TINY, WIDE = 3, 1  # layers of each size for one method, kind and precision
DAMPINGS = (2.0**-7, 0.01, 0.3, 2.0**-12)


@dataclass(frozen=True)
class Layer:
    """What a layer is drawn for. Tiny layers have exact answers; wide ones have many blocks."""

    method: str
    kind: str
    dtype: str
    storage: str | None
    number: int

    @property
    def tiny(self) -> bool:
        """Whether exact arithmetic is fast enough."""
        return self.number <= TINY

    @property
    def id(self) -> str:
        """The id of its case."""
        return f"fresh-{self.method}-{self.storage or self.dtype}-{self.kind}-{self.number}"

    def case(self, seed: int) -> Case:
        """Draw the layer and its options. They depend on nothing but the seed and the id."""
        return drawn_case(self._made(Random(f"{seed}/{self.id}")), seed, exact=self.tiny)

    def _made(self, rng: Random) -> Case:
        rows = rng.randint(3, 5) if self.tiny else rng.randint(7, 12)
        columns = rng.choice((4, 6, 8, 9) if self.tiny else (24, 30, 36, 40))
        if self.tiny and self.number == TINY and "outliers" not in self.kind:
            rows, columns = rng.choice(((rows, columns), (1, columns), (rows, 1)))
        features = rng.sample(FEATURES, rng.randint(0, 2))
        if self.number == 1:  # many ties
            features.append("coarse grid")
        weight, gram = matrices(rng, rows, columns, features)
        weight = weight * 2.0 ** (0 if self.storage == "float16" else rng.randint(-9, 9))
        gram = gram * 2.0 ** rng.randint(-9, 9)
        m = rng.choice([m for m in range(min(2, columns), columns + 1) if columns % m == 0])
        step = m if self.kind.startswith("nm") else 1
        blocks = rng.randint(1, max(1, columns // (2 * step)))
        block_size = rng.choice((step * blocks, step * blocks, step, columns, columns + 1))
        return made_case(
            stored(weight, self.storage or self.dtype),
            gram.astype(self.dtype),
            self.pattern(rng, m),
            method=self.method,
            block_size=block_size,
            damping=rng.choice(DAMPINGS),
            storage=self.storage,
            name=self.id,
        )

    def pattern(self, rng: Random, m: int) -> str:
        """A pattern of the kind that removes something.

        m  columns of a group
        """
        alpha = rng.randint(5, 60) if "outliers" in self.kind else 0
        outliers = f"+outliers:{alpha / 100}" if alpha else ""
        if self.kind.startswith("nm"):
            return f"{rng.randint(1, m)}:{m}{outliers}"
        return f"{self.kind.partition('-')[0]}:{rng.randint(10, 95 - alpha) / 100}{outliers}"


def layers() -> Iterator[Layer]:
    """What layers are drawn for."""
    for method in METHODS:
        for kind in KINDS:
            if method != "thanos" and "outliers" in kind:
                continue  # the baselines refuse them
            for dtype, storage in PRECISIONS:
                for number in range(1, TINY + WIDE + 1):
                    yield Layer(method, kind, dtype, storage, number)


def matrices(rng: Random, rows: int, columns: int, features: Any = ()) -> tuple[Matrix, Matrix]:
    """W and G of few bits, so that G is exact even in float32."""
    tokens = max(2, columns // 3) if "few tokens" in features else columns + 8
    grid = "coarse grid" in features
    W = whole_numbers(rng, (rows, columns), 4 if grid else 2047) / (4 if grid else 512)
    X = whole_numbers(rng, (columns, tokens), 1 if grid else 12) / (1 if grid else 4)
    first, second = rng.randrange(columns), rng.randrange(columns)
    if "equal columns" in features:
        W[:, first], X[first] = W[:, second], X[second]
    if "zero weights" in features:
        W[np.array([[rng.random() < 0.3 for _ in range(columns)] for _ in range(rows)])] = 0.0
    if "loud row" in features:
        W[rng.randrange(rows)] *= 8
    if "loud column" in features:
        X[first] *= 64
    if "dead columns" in features:
        X[[j for j in range(columns) if rng.random() < 0.3]] = 0.0
    G = np.asarray(X @ X.T)
    if "nearly symmetric" in features and first != second:
        G[first, second] += 2.0**-18 * np.sqrt(G[first, first] * G[second, second])
    return W, G
