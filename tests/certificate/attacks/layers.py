"""Layers to attack, of several shapes, spectra and precisions, and the right results for them."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import reference
from reference import Pattern, Pruned, SemiStructured, Structured, Unstructured

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

METHODS = ("thanos", "sparsegpt", "magnitude", "wanda")
MOVING = ("thanos", "sparsegpt")
SPECTRA = ("many tokens", "few tokens", "equal columns", "outlier columns", "low rank", "identity")
# How the implementation computes and what it stores in.
PRECISIONS = (
    ("float64", None), ("float32", None), ("float32", "bfloat16"), ("float32", "float16"),
    ("float64", "float32"), ("float64", "bfloat16"),
)  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """One layer and what was asked for: the arguments of `certify` but for the result."""

    weight: Array
    gram: Array
    pattern: Pattern
    method: str = "thanos"
    block: int = 128
    damping: float = 0.01
    arithmetic: str = "float64"
    storage: str | None = None
    switches: dict[str, Any] = field(default_factory=dict)

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments that `certify` and the methods of `reference` have in common."""
        return {"block_size": self.block, "damping": self.damping, **self.switches}

    @property
    def moves(self) -> bool:
        """Whether the method moves kept weights."""
        return self.method in MOVING

    @property
    def kind(self) -> str:
        """The type that results are stored in."""
        return self.storage or self.arithmetic

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """The columns [j1, j2) that are removed jointly."""
        b = len(self.gram)
        width = 1 if self.method == "sparsegpt" else self.block
        if self.method == "thanos" and isinstance(self.pattern, Structured):
            width = b
        return [(j1, min(j1 + width, b)) for j1 in range(0, b, width)]

    def right(self) -> Pruned:
        """The reference's result, rounded to the type that results are stored in."""
        method = getattr(reference, self.method)
        with np.errstate(all="ignore"):
            found: Pruned = method(self.weight, self.gram, self.pattern, **self.options)
            return replace(found, weight=rounded(found.weight, self.kind))


def rounded(values: Array, kind: str) -> Array:
    """Nearest numbers of a floating-point type, ties to even, in float64; rounded only once."""
    with np.errstate(all="ignore"):
        if kind != "bfloat16":
            typed: Array = np.asarray(values.astype(kind), dtype=np.float64)
            return typed
        exponents = np.maximum(np.frexp(values)[1] - 8, -133)  # of the last of eight digits
        found = np.ldexp(np.rint(np.ldexp(values, -exponents)), exponents)
        finite: Array = np.where(np.abs(found) < 2.0**128, found, np.sign(found) * np.inf)
        return finite


def gram_of(rng: np.random.Generator, b: int, spectrum: str) -> Array:
    """G = X Xᵀ of b columns."""
    tokens = max(1, b // 3) if spectrum == "few tokens" else 3 * b
    X = rng.standard_normal((b, tokens))
    if spectrum == "equal columns":
        X = X[rng.integers(0, max(1, b // 2), b)]
    elif spectrum == "outlier columns":
        X *= rng.lognormal(0, 2, (b, 1))
    elif spectrum == "low rank":
        X = 0.03 * X + rng.standard_normal((b, 2)) @ rng.standard_normal((2, tokens))
    G: Array = np.eye(b) if spectrum == "identity" else X @ X.T
    return G


def weight_of(rng: np.random.Generator, c: int, b: int) -> Array:
    """W, of ordinary size: normal, or with heavy tails."""
    W = rng.standard_normal((c, b))
    return W * rng.lognormal(0, 1, (c, b)) if rng.random() < 0.3 else W


def pattern_of(rng: np.random.Generator, method: str, c: int, b: int, block: int) -> Pattern:
    """A pattern that this shape allows."""
    alpha = float(rng.choice([0.0, 0.1])) if method == "thanos" else 0.0
    sizes = [m for m in (2, 4, 8) if b % m == 0 and (block % m == 0 or block >= b)]
    kind = rng.integers(3)
    if kind == 0 and sizes:
        m = int(rng.choice(sizes))
        return SemiStructured(int(rng.integers(1, m)), m, alpha)
    if kind == 1 and b > 2:
        return Structured(0.3, alpha)
    return Unstructured(float(rng.choice([0.1, 0.5, 0.7])))


def random_layer(rng: np.random.Generator, **fixed: Any) -> Layer:
    """A layer of random shape, spectrum, method, pattern and precision.

    fixed  fields of Layer, and `spectrum`, `shape`
    """
    c, b = fixed.pop("shape", (int(rng.integers(1, 9)), int(rng.choice([4, 9, 16, 24, 40]))))
    spectrum = fixed.pop("spectrum", str(rng.choice(SPECTRA)))
    method = fixed.pop("method", str(rng.choice(METHODS, p=[0.5, 0.3, 0.1, 0.1])))
    block = fixed.pop("block", int(rng.choice([1, 2, 4, 8, 16, 128])))
    arithmetic, storage = PRECISIONS[rng.integers(len(PRECISIONS))]
    if "arithmetic" in fixed:
        arithmetic, storage = fixed.pop("arithmetic"), None
    layer = Layer(
        weight=weight_of(rng, c, b),
        gram=gram_of(rng, b, spectrum),
        pattern=fixed.pop("pattern", None) or pattern_of(rng, method, c, b, block),
        method=method,
        block=block,
        arithmetic=arithmetic,
        storage=fixed.pop("storage", storage),
        **{"damping": float(rng.choice([1e-2, 1e-2, 1e-3, 1e-4])), **fixed},
    )
    return as_given(layer)


def as_given(layer: Layer) -> Layer:
    """The same layer with W in the type that results are stored in, and G in that of arithmetic."""
    weight, gram = rounded(layer.weight, layer.kind), rounded(layer.gram, layer.arithmetic)
    return replace(layer, weight=weight, gram=gram)
