"""Hypothesis strategies for pruning problems, to test any implementation.

    from hypothesis import given
    from verification.strategies import problems

    @given(problems())
    def test_mine(problem):
        W_hat, mask = my_thanos(problem.weight, problem.gram, problem.pattern, ...)

`problems` draws a whole call; `layers`, `patterns` and `block_sizes` draw its parts; `hard_inputs`
draws from the catalogue. Layers are tiny, because mistakes show on tiny layers. Numbers come from a
drawn seed, so that shrinking works on sizes and features and not on numbers.
"""

from dataclasses import dataclass
from fractions import Fraction

import reference  # noqa: F401 - before NumPy: reference/threads.py

# isort: split
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from reference.patterns import Pattern, SemiStructured, Structured, Unstructured
from verification.catalogue import HardInput, catalogue

__all__ = ["DrawnLayer", "Problem", "block_sizes", "hard_inputs", "layers", "patterns", "problems"]

Array = NDArray[np.float64]

KINDS = ("unstructured", "semi-structured", "structured")
FEATURES = (
    "dead columns", "few tokens", "equal columns", "zero weights", "loud column", "close scores",
)  # fmt: skip
CLOSE = 2.0**-34  # the step between close scores: float64 tells them apart, float32 does not
# Shares that are removed. Those of 17 digits are 1/2 or 1/4 in float64: their counts are others.
SHARES = (
    "0", "0.1", "0.29", "0.5", "0.7", "0.9", "0.99",
    "0.24999999999999999", "0.49999999999999999", "0.50000000000000001",
)  # fmt: skip


@dataclass(frozen=True)
class DrawnLayer:
    """A weight, (c, b), and calibration inputs, (b, a)."""

    weight: Array
    inputs: Array

    @property
    def gram(self) -> Array:
        """G = X Xᵀ, (b, b)."""
        return np.asarray(self.inputs @ self.inputs.T)


@dataclass(frozen=True)
class Problem:
    """All arguments of one call of a pruning method."""

    layer: DrawnLayer
    pattern: Pattern
    block_size: int
    damping: float

    @property
    def weight(self) -> Array:
        """W, (c, b)."""
        return self.layer.weight

    @property
    def gram(self) -> Array:
        """G = X Xᵀ, (b, b)."""
        return self.layer.gram


@st.composite
def layers(
    draw: st.DrawFn,
    *,
    max_rows: int = 6,
    max_columns: int = 12,
    ties: bool = True,
) -> DrawnLayer:
    """A layer, often with one of FEATURES.

    ties  whether saliencies may tie exactly; False also leaves out some FEATURES
    """
    c = draw(st.integers(1, max_rows), label="rows")
    b = draw(st.integers(1, max_columns), label="columns")
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="seed"))
    allowed = FEATURES if ties else ("few tokens", "loud column")
    features = draw(st.sets(st.sampled_from(allowed), max_size=2), label="features")
    on_grid = ties and draw(st.booleans(), label="on a coarse grid")

    tokens = max(1, b // 2) if "few tokens" in features else b + 4
    if on_grid:
        W, X = rng.integers(-4, 5, (c, b)) / 4, rng.choice([-1.0, 1.0], (b, tokens))
    else:
        W = rng.standard_normal((c, b))
        X = rng.standard_normal((b, tokens)) * rng.lognormal(size=(b, 1))
    if "close scores" in features:
        W, X = _close(rng, (c, b)), _close(rng, (b, tokens))
    if "equal columns" in features and b > 1:
        first, second = rng.choice(b, 2, replace=False)
        W[:, first], X[first] = W[:, second], X[second]
    if "zero weights" in features:
        W[rng.random((c, b)) < 0.3] = 0.0
    if "loud column" in features:
        X[rng.integers(b)] *= 64.0
    if "dead columns" in features:
        X[rng.random(b) < 0.3] = 0.0
    return DrawnLayer(W, X)


def _close(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Numbers whose sizes are 1 up to a few steps."""
    return np.asarray(rng.choice([-1.0, 1.0], shape) * (1 + CLOSE * rng.integers(1, 64, shape)))


@st.composite
def patterns(
    draw: st.DrawFn, columns: int, *, kinds: tuple[str, ...] = KINDS, outlier_rows: bool = True
) -> Pattern:
    """A pattern that fits `columns`, often an extreme one that removes nothing or nearly all."""
    kind = draw(st.sampled_from(kinds), label="kind")
    share = draw(st.sampled_from(SHARES), label="share removed")
    alphas = ("0", "0.1", "0.25", "0.5", "0.20000000000000001") if outlier_rows else ("0",)
    alpha = draw(st.sampled_from(alphas), label="share of outlier rows")
    if kind == "unstructured":
        return Unstructured(share)
    if kind == "structured":
        return Structured(min(Fraction(share), 1 - Fraction(alpha)), alpha)
    m = draw(st.sampled_from([m for m in range(1, columns + 1) if columns % m == 0]), label="m")
    return SemiStructured(draw(st.integers(0, m), label="n"), m, alpha)


def block_sizes(columns: int, pattern: Pattern) -> st.SearchStrategy[int]:
    """Block sizes from the smallest that the pattern allows to one larger than the layer."""
    step = pattern.m if isinstance(pattern, SemiStructured) else 1
    return st.integers(1, columns // step).map(lambda blocks: blocks * step) | st.just(columns + 1)


@st.composite
def problems(
    draw: st.DrawFn,
    *,
    kinds: tuple[str, ...] = KINDS,
    outlier_rows: bool = True,
    max_rows: int = 6,
    max_columns: int = 12,
    ties: bool = True,
    dampings: tuple[float, ...] = (0.01, 1e-4, 1.0),
) -> Problem:
    """A whole call: a layer, a pattern that fits it, B and γ. Options as in the parts."""
    layer = draw(layers(max_rows=max_rows, max_columns=max_columns, ties=ties))
    b = layer.weight.shape[1]
    pattern = draw(patterns(b, kinds=kinds, outlier_rows=outlier_rows))
    return Problem(
        layer,
        pattern,
        draw(block_sizes(b, pattern), label="block_size"),
        draw(st.sampled_from(dampings), label="damping"),
    )


def hard_inputs(arithmetic: str = "float64") -> st.SearchStrategy[HardInput]:
    """One entry of the catalogue."""
    return st.sampled_from(catalogue(arithmetic))
