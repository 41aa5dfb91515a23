"""Layers whose scores differ in the arithmetic of the case and tie in a coarser one."""

from collections.abc import Iterator
from random import Random

import numpy as np

from verification.vectors.special import Matrix, Special

# Scores are 1 + k steps for k from 1 to `largest`: equal in float32 in float64 layers, and in half
# precision in float32 layers, where right code is certain of them.
STEPS = {"float64": (2.0**-34, 63), "float32": (2.0**-15, 8)}
ROWS, COLUMNS, GROUP = 4, 8, 4
SEEDS = {"float64": 4000, "float32": 4004}
PLAIN = ("unstructured:0.45", "2:4", "structured:0.375")
OUTLIERS = ("2:4+outliers:0.5", "structured:0.25+outliers:0.5")


def close_scores() -> Iterator[Special]:
    """Weights that are nearly equal, and inputs whose norms are."""
    for dtype, (step, largest) in STEPS.items():
        rng = Random(SEEDS[dtype])
        signs = _signs(rng)
        near: Matrix = 1 + step * _whole(rng, (ROWS, COLUMNS), largest)
        coupled: Matrix = np.kron(np.array([[64.0, 16.0], [16.0, 64.0]]), np.eye(GROUP))
        loud: Matrix = coupled + np.diag(64 * step * _whole(rng, (1, COLUMNS), largest)[0])
        every = {"thanos": (*PLAIN, *OUTLIERS), "sparsegpt": PLAIN, "wanda": PLAIN}
        for method, patterns in {**every, "magnitude": PLAIN}.items():
            yield _special("weights", signs * near, coupled, patterns, GROUP, method, dtype)
        for method in every:
            yield _special("norms", signs, loud, PLAIN, COLUMNS, method, dtype)


def _special(
    name: str,
    weight: Matrix,
    gram: Matrix,
    patterns: tuple[str, ...],
    block_size: int,
    method: str,
    dtype: str,
) -> Special:
    return Special(f"close-{name}", "close-scores", weight, gram, patterns, block_size,
                   methods=(method,), dtypes=(dtype,))  # fmt: skip


def _signs(rng: Random) -> Matrix:
    """±1; the products of coupled columns are the same in all rows, and so nearly are the h."""
    first = np.array([[1.0 if rng.random() < 0.5 else -1.0 for _ in range(GROUP)]
                      for _ in range(ROWS)])  # fmt: skip
    return np.hstack([first, first * [1.0, -1.0, 1.0, 1.0]])


def _whole(rng: Random, shape: tuple[int, int], largest: int) -> Matrix:
    """Whole numbers from 1 to `largest`, different within a row as far as there are enough."""
    rows = [sorted(range(1, largest + 1), key=lambda _: rng.random()) for _ in range(shape[0])]
    return np.array([row[: shape[1]] for row in rows], float)
