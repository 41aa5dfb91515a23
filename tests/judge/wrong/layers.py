"""Layers and calls on which the bugs show, for any seed and size."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np

from tests.judge.wrong.arrays import Array, Floats
from tests.judge.wrong.bug import Wrong
from verification.conformance.storage import stored

LARGEST_HALF = 65504.0
STORED = ("float16", "bfloat16")

# Calls that must be refused, with words of which the message must hold one.
REFUSED = {
    "weight-nan": ("weight",),
    "weight-integers": ("weight",),
    "weight-vector": ("weight",),
    "gram-nan": ("gram",),
    "gram-negative": ("gram",),
    "gram-asymmetric": ("gram",),
    "gram-dead-row": ("gram",),
    "gram-indefinite": ("gram",),
    "gram-too-large": ("gram",),
    "damping-zero": ("damping",),
    "damping-zero-and-weight-nan": ("damping",),
    "block-size-zero": ("block_size",),
    "block-size-by-m": ("block_size",),
    "columns-by-m": ("m",),
    "block-size-zero-structured": ("block_size",),
    "unstructured-outliers": ("pattern",),
    "m-zero": ("m",),
    "n-above-m": ("n",),
    "n-of-ten-digits": ("pattern",),
    "sparsity-one": ("sparsity",),
    "sparsity-underscore": ("sparsity",),
    "sparsity-hexadecimal": ("sparsity",),
    "sparsity-long-exponent": ("sparsity",),
    "alpha-one": ("outlier_rows",),
    "too-many-columns": ("sparsity",),
    "too-many-columns-of-no-row": ("sparsity",),
    "outlier-rows": ("outlier_rows",),
}


_REFUSED_PATTERNS = {
    "unstructured-outliers": "unstructured:0.5+outliers:0.1",
    "m-zero": "0:0",
    "n-above-m": "2:1",
    "n-of-ten-digits": "0000000001:1",
    "sparsity-one": "unstructured:1",
    "sparsity-underscore": "unstructured:0.5_0",
    "sparsity-hexadecimal": "unstructured:0x1p-1",
    "sparsity-long-exponent": "unstructured:5e-00001",
    "alpha-one": "structured:0.25+outliers:1",
    "too-many-columns": "structured:0.6+outliers:0.5",
    "too-many-columns-of-no-row": "structured:0.6+outliers:0.999",
}


@dataclass(frozen=True)
class Showcase:
    """A call that shows a bug.

    features  features of its layer, an argument of `layer`
    refused   key of REFUSED, an argument of `layer` too; "" for a legal call
    """

    pattern: str
    block_size: int
    damping: float = 0.01
    features: tuple[str, ...] = ()
    refused: str = ""


def layer(
    seed: int, rows: int, columns: int, *, features: tuple[str, ...] = (), refused: str = ""
) -> tuple[Floats, Floats]:
    """A weight, (rows, columns), and the Gram matrix of its inputs, in float64 by default.

    Inputs are correlated and of very different loudness, and one column is far louder than the
    others, as in language models.

    features  keys of `bug.FEATURES`; those that concern only the call have no effect
    refused   key of REFUSED; likewise
    """
    rng = np.random.default_rng([seed, rows, columns])
    weight: Array = rng.standard_normal((rows, columns))
    X = _inputs(rng, columns)
    if "spiky-rows" in features:
        spiky = rng.permutation(columns)[: columns // 2]
        weight[:, spiky] *= 0.1
        weight[rng.integers(rows, size=len(spiky)), spiky] = rows / 2
        X /= np.linalg.norm(X, axis=1, keepdims=True)
    if "loud-row" in features:
        weight[0] *= 20.0
    if "ties" in features:
        weight = rng.choice([-1.0, -0.5, 0.5, 1.0], (rows, columns))
        X = rng.choice([-1.0, 1.0], X.shape)
    if "tied-columns" in features:
        weight = weight[:, :1] * rng.choice([-1.0, 1.0], columns)
        X = X[:1] * rng.choice([-1.0, 1.0], (columns, 1))
    if "close-scores" in features:
        steps = [rng.integers(1, 64, size) / 2**30 for size in ((rows, columns), (columns, 1))]
        weight = rng.choice([-1.0, 1.0], columns) * (1 + steps[0])
        X = rng.choice([-1.0, 1.0], X.shape) * (1 + steps[1])
    if "tied-products" in features:
        norms = rng.choice([1.0, 3.0, 9.0, 11.0, 33.0], columns)
        weight, X = rng.choice([-99.0, 99.0], (rows, columns)) / norms, np.diag(norms)
    if "dead-columns" in features:
        X[np.unique([columns // 5, columns // 2, columns - 2])] = 0.0
    if "zero-gram" in features:
        X[:] = 0.0
    gram: Array = X @ X.T
    if "quiet-inputs" in features:
        gram /= np.diag(gram).mean()
    if "loud-inputs" in features:
        gram *= LARGEST_HALF / np.median(np.diag(gram))
    if "cancelling-row" in features:
        weight[1] = _cancelling_row(rng, weight, gram)
    if "tied-rows" in features:
        signs = rng.choice([-1.0, 1.0], (rows - rows // 3, 1))
        weight[rows // 3 :] = 3 * signs * rng.standard_normal(columns)
    if "quiet-heavy-row" in features:
        weight[1] = _quiet_heavy_row(weight, gram)
    gram = (gram + gram.T) / 2
    if "nearly-symmetric" in features:
        norms = np.sqrt(np.diag(gram))
        gram += np.triu(9e-6 * rng.choice([-1.0, 1.0], gram.shape), 1) * np.outer(norms, norms)
    storage = next((one for one in STORED if f"stored-{one}" in features), "")
    if storage:
        weight = np.asarray(stored(weight.astype(np.float32), storage))
        return _spoiled(weight, gram.astype(np.float32), refused)
    if "single-precision" in features:
        return _spoiled(weight.astype(np.float32), gram.astype(np.float32), refused)
    return _spoiled(
        np.asfortranarray(weight) if "fortran-order" in features else weight, gram, refused
    )


def _inputs(rng: np.random.Generator, columns: int) -> Array:
    """X, (columns, tokens), with more tokens than columns: G alone is definite."""
    tokens, causes = 3 * columns + 8, columns // 4 + 1
    common = rng.standard_normal((columns, causes)) @ rng.standard_normal((causes, tokens))
    own = 0.3 * rng.standard_normal((columns, tokens))
    loudness = rng.lognormal(size=(columns, 1))
    loudness[columns // 3] = 20.0
    return np.asarray((common + own) * loudness)


def _cancelling_row(rng: np.random.Generator, weight: Array, gram: Array) -> Array:
    """A row with four times the largest Σ_j W_ij² G_jj, whose outputs nearly cancel."""
    norms = np.sqrt(np.diag(gram))
    directions = np.linalg.eigh(gram / np.outer(norms, norms))[1]
    quietest = directions[:, : max(len(norms) // 10, 1)]
    row: Array = quietest @ rng.standard_normal(quietest.shape[1]) / norms
    largest = (weight**2 @ norms**2).max()
    return np.asarray(2 * row * np.sqrt(largest / (row**2 @ norms**2)))


def _quiet_heavy_row(weight: Array, gram: Array, damping: float = 0.01) -> Array:
    """A row of one weight with middling outputs, and with the largest once λ counts as an input."""
    outputs = np.einsum("ij,jk,ik->i", weight, gram, weight)
    lam = damping * np.diag(gram).mean()
    others = outputs + lam * np.sum(weight**2, axis=1)
    squares = 1.5 * others.max() / lam
    row = np.zeros(len(gram))
    middling = int(np.argmin(np.abs(squares * np.diag(gram) - np.median(outputs))))
    row[middling] = np.sqrt(squares)
    return row


def _spoiled(weight: Floats, gram: Floats, refused: str) -> tuple[Floats, Floats]:
    """The layer, changed so that it must be refused."""
    matrices: dict[str, Any] = {"weight": weight, "gram": gram}
    norms = np.sqrt(np.diag(gram))
    i, j = np.sort(np.argsort(norms)[-2:])  # the two loudest columns
    if refused.endswith("weight-nan"):
        weight[-1, -1] = np.nan
    elif refused == "weight-integers":
        matrices["weight"] = np.rint(10 * weight).astype(np.int64)
    elif refused == "weight-vector":
        matrices["weight"] = weight[0]
    elif refused == "gram-nan":
        gram[-1] = gram[:, -1] = np.nan
    elif refused == "gram-negative":
        gram[-1] = gram[:, -1] = 0.0
        gram[-1, -1] = -1e-6 * norms[0] ** 2
    elif refused == "gram-asymmetric":
        gram[i, j] += 1e-3 * norms[i] * norms[j]
    elif refused == "gram-indefinite":
        gram[i, j] = gram[j, i] = 10 * norms[i] * norms[j]
    elif refused == "gram-dead-row":
        gram[-1] = gram[:, -1] = 0.0
        gram[-1, 0] = gram[0, -1] = 1e-9 * norms[0] ** 2
    elif refused == "gram-too-large":
        matrices["gram"] = np.pad(gram, (0, 1)) + np.diag(np.append(0 * norms, norms[0] ** 2))
    return matrices["weight"], matrices["gram"]


def showcases(wrong: Wrong, rows: int, columns: int, block_size: int = 16) -> tuple[Showcase, ...]:
    """The calls that show a bug on layers of one size, for each kind of pattern.

    Empty if the bug cannot show at this size, for example if no group of columns fits.
    """
    if wrong.argument:
        return _refused_call(wrong.argument, columns, block_size)
    if "one-column-blocks" in wrong.features:
        block_size = 1
    if "ragged-last-block" in wrong.features:
        block_size += 4
    if "wide-block" in wrong.features:
        block_size = columns + 3
    if "block-of-256" in wrong.features:
        block_size = max(256, columns)
    elif "many-blocks" in wrong.features and block_size >= columns:
        return ()
    texts = dict.fromkeys(_texts(wrong, rows, columns, block_size))
    return tuple(Showcase(text, block_size, features=wrong.features) for text in texts)


def _texts(wrong: Wrong, rows: int, columns: int, block_size: int) -> Iterator[str]:
    """Patterns with the features, of the kinds on which the bug shows."""
    if "long-decimals" in wrong.features:
        yield from _long_decimals(wrong, rows, columns, block_size)
        return
    if "all-rows" in wrong.features:
        yield "structured:0.02+outliers:0.95"
        return
    groups = _groups(columns, block_size, "n-not-half" in wrong.features)
    for kind in wrong.patterns:
        if kind == "unstructured":
            yield f"unstructured:{_share(wrong.features, rows * columns)}"
        elif kind == "structured":
            yield f"structured:{_share(wrong.features, columns)}"
        elif groups and kind == "n:m":
            yield f"0{groups[1:]}" if "nothing-removed" in wrong.features else groups
        elif kind == "outlier-rows":
            lone = wrong.patterns == ("outlier-rows",)
            if groups and "structured-outliers" not in wrong.features:
                yield f"{groups}+outliers:{_uneven(('0.1', '0.15', '0.1111111'), rows)}"
            if lone or "structured" in wrong.patterns:
                yield f"structured:0.3+outliers:{_uneven(('0.2', '0.22', '0.2222222'), rows)}"


def _long_decimals(wrong: Wrong, rows: int, columns: int, block_size: int) -> Iterator[str]:
    """Patterns whose p or alpha is a little less, or more, than a number with few binary digits."""
    groups = _groups(columns, block_size, False)
    for kind in wrong.patterns:
        if kind == "unstructured":
            yield "unstructured:0.49999999999999999"
        elif kind == "structured":
            yield "structured:0.50000000000000001"
        elif kind == "outlier-rows":
            alpha = _just_above(rows)
            yield f"structured:0.25+outliers:{alpha}"
            if groups and "structured-outliers" not in wrong.features:
                yield f"{groups}+outliers:{alpha}"


def _just_above(among: int) -> str:
    """A decimal of 19 digits, a little more than k of `among`, that is k of it in float64."""
    for k in range(among // 2, 0, -1):
        text = f"0.{10**19 * k // among + 1:019d}"
        if ceil(float(text) * among) == k:
            return text
    raise AssertionError(f"no such share of {among}")


def _uneven(shares: tuple[str, ...], among: int) -> str:
    """The first share that is not a whole number of `among`."""
    return next(share for share in shares if (Fraction(share) * among).denominator > 1)


def _groups(columns: int, block_size: int, n_not_half: bool) -> str | None:
    """The n:m that fits the layer, or None."""
    for m in (4, 8, 3, 5, 6) if n_not_half else (4, 2, 8, 3, 5, 6):
        if columns % m == 0 and (block_size >= columns or block_size % m == 0):
            return f"1:{m}" if n_not_half or m == 3 else f"{m // 2}:{m}"
    return None


def _share(features: tuple[str, ...], among: int) -> str:
    """p for a count among this many weights or columns."""
    for feature, share in (("few-removed", "0.02"), ("nothing-removed", "0"), ("spelled", "5e-1"),
                           ("all-columns", "0.999"), ("close-scores", "0.45")):  # fmt: skip
        if feature in features:
            return share
    if "uneven-count" in features:
        return _uneven(("0.3", "0.37", "0.3333333"), among)
    if "binary-count" in features:
        typed = [f"0.{k:02d}" for k in range(1, 100)]
        rounded_up = "0.49999999999999999"  # 0.5 in binary
        return next(
            (p for p in typed if int(float(p) * among) != floor(Fraction(p) * among)), rounded_up
        )
    return "0.5"


def _refused_call(refused: str, columns: int, block_size: int) -> tuple[Showcase, ...]:
    """The call that a key of REFUSED stands for; the layer does the rest."""
    pattern, damping = "unstructured:0.5", 0.01
    if refused in _REFUSED_PATTERNS:
        pattern = _REFUSED_PATTERNS[refused]
    elif refused == "outlier-rows":
        pattern = f"{_groups(columns, columns, False) or '1:1'}+outliers:0.1"
        block_size = columns
    elif refused.startswith("damping-zero"):
        damping = 0.0
    elif refused.startswith("block-size-zero"):
        block_size = 0
        pattern = "structured:0.5" if refused.endswith("structured") else pattern
    elif refused == "columns-by-m":
        m = next(m for m in range(2, columns + 2) if columns % m)
        pattern, block_size = f"1:{m}", columns
    elif refused == "block-size-by-m":
        m = next((m for m in range(2, columns // 2 + 1) if columns % m == 0), 0)
        if not m:
            return ()
        pattern, block_size = f"1:{m}", m + 1
    return (Showcase(pattern, block_size, damping, refused=refused),)
