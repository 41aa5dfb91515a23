"""Draws inputs that section 2 refuses, with one fault each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from verification.conformance.capabilities import METHODS
from verification.conformance.cases import Case
from verification.conformance.made import made_case
from verification.fresh.drawn import drawn_case
from verification.fresh.layers import Matrix, matrices

# A message may name an argument of the text form, or the whole pattern.
SPARSITY, OUTLIERS = ("sparsity", "pattern"), ("outlier_rows", "pattern")
N, M = ("n", "pattern"), ("m", "pattern")
WORDS = ("half", "many", "p", "x7", "0.5.5", "1/3/3", "0x1p-2", "2e", "nan", "inf")

# What is spoiled, the words of which a message must hold one, and the values of which it must.
_Fault = tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]]
_Spoiler = Callable[[Random, Matrix, Matrix], _Fault]


@dataclass(frozen=True)
class DrawnRefusal:
    """One fault, for one method."""

    method: str
    fault: str

    @property
    def id(self) -> str:
        """The id of its case."""
        return f"fresh-refusal-{self.method}-{self.fault}"

    def case(self, seed: int) -> Case:
        """A legal call, drawn and then spoiled."""
        rng = Random(f"{seed}/{self.id}")
        columns = rng.choice((4, 8, 12))
        W, G = matrices(rng, rng.randint(2, 5), columns)
        call: dict[str, Any] = {
            "weight": W,
            "gram": G,
            "pattern": rng.choice(("unstructured:0.5", "structured:0.25", "2:4", "1:2")),
            "block_size": rng.choice((4, columns)),
            "damping": rng.choice((2.0**-7, 0.01)),
        }
        changes, names, values = SPOILERS[self.fault](rng, W, G)
        made = made_case(**{**call, **changes}, method=self.method, name=self.id, refused=names)
        made.input.metadata["dtype"] = "float64"  # also where the matrices hold whole numbers
        return drawn_case(made, seed, dtype="float64", values=values)


def refusals() -> Iterator[DrawnRefusal]:
    """One of every fault for every method."""
    for method in METHODS:
        for fault in SPOILERS:
            if fault != "outlier-rows" or method != "thanos":  # the baselines refuse them
                yield DrawnRefusal(method, fault)


def _entry(name: str, value: Callable[[Random], float]) -> _Spoiler:
    """One entry of a matrix becomes what it may not be."""

    def spoil(rng: Random, W: Matrix, G: Matrix) -> _Fault:
        matrix = W if name == "weight" else G
        entry = value(rng)
        matrix[rng.randrange(len(matrix)), rng.randrange(matrix.shape[1])] = entry
        return {}, (name,), (repr(entry),)

    return spoil


def _negative_diagonal(rng: Random, W: Matrix, G: Matrix) -> _Fault:
    j = rng.randrange(len(G))
    G[j, j] = -rng.randint(1, 99) / 8
    return {}, ("gram",), (repr(float(G[j, j])),)


def _dead_but_not_empty(rng: Random, W: Matrix, G: Matrix) -> _Fault:
    j, k = rng.sample(range(len(G)), 2)
    G[j], G[:, j] = 0.0, 0.0
    G[j, k] = G[k, j] = 2.0 ** -rng.randint(2, 20)
    return {}, ("gram",), ()


def _asymmetric(rng: Random, W: Matrix, G: Matrix) -> _Fault:
    j, k = rng.sample(range(len(G)), 2)
    G[j, k] += rng.choice((-1, 1)) * 2.0 ** -rng.randint(4, 12) * np.sqrt(G[j, j] * G[k, k])
    return {}, ("gram",), ()


def _indefinite(rng: Random, W: Matrix, G: Matrix) -> _Fault:
    j, k = rng.sample(range(len(G)), 2)
    G[j, k] = G[k, j] = rng.choice((-1, 1)) * rng.randint(3, 9) * np.sqrt(G[j, j] * G[k, k])
    return {}, ("gram",), ()


def _shape(name: str, cut: Callable[[Matrix], Matrix]) -> _Spoiler:
    def spoil(rng: Random, W: Matrix, G: Matrix) -> _Fault:
        return {name: cut(W if name == "weight" else G)}, (name,), ()

    return spoil


def _number(name: str, draw: Callable[[Random], float]) -> _Spoiler:
    def spoil(rng: Random, W: Matrix, G: Matrix) -> _Fault:
        value = draw(rng)
        return {name: value}, (name,), (repr(value),)

    return spoil


def _pattern(
    names: tuple[str, ...], draw: Callable[[Random], tuple[str, tuple[str, ...]]], **others: Any
) -> _Spoiler:
    def spoil(rng: Random, W: Matrix, G: Matrix) -> _Fault:
        pattern, values = draw(rng)
        return {"pattern": pattern, **others}, names, values

    return spoil


def _above_one(rng: Random) -> tuple[str, tuple[str, ...]]:
    p = repr(1 + rng.randint(0, 300) / 100)
    return f"{rng.choice(('unstructured', 'structured'))}:{p}", (p,)


def _negative(rng: Random) -> tuple[str, tuple[str, ...]]:
    p = repr(-rng.randint(1, 300) / 100)
    return f"{rng.choice(('unstructured', 'structured'))}:{p}", (p,)


def _no_decimal(rng: Random) -> tuple[str, tuple[str, ...]]:
    word = rng.choice(WORDS)
    return f"{rng.choice(('unstructured', 'structured'))}:{word}", (word,)


def _no_pattern(rng: Random) -> tuple[str, tuple[str, ...]]:
    word = f"{rng.choice(('rows', 'random', 'columns'))}:0.{rng.randint(1, 9)}"
    return word, (word,)


def _n_above_m(rng: Random) -> tuple[str, tuple[str, ...]]:
    n = rng.randint(5, 99)
    return f"{n}:4", (str(n),)


def _m_does_not_divide(rng: Random) -> tuple[str, tuple[str, ...]]:
    m = rng.choice((5, 7, 9, 11, 16))
    return f"1:{m}", (str(m),)


def _outlier_rows(rng: Random) -> tuple[str, tuple[str, ...]]:
    alpha = repr(rng.randint(1, 9) / 10)
    return f"2:4+outliers:{alpha}", (alpha,)


def _block_of_other_groups(rng: Random, W: Matrix, G: Matrix) -> _Fault:
    """The block is no multiple of m, which divides the columns."""
    columns = rng.choice((8, 12))
    W, G = matrices(rng, 3, columns)
    block_size = rng.choice((1, 2, 3, 5, 6, 7))
    changes = {"weight": W, "gram": G, "pattern": f"{rng.randint(0, 4)}:4"}
    return {**changes, "block_size": block_size}, ("block_size",), (str(block_size),)


SPOILERS: dict[str, _Spoiler] = {
    "no-pattern": _pattern(("pattern",), _no_pattern),
    "n-above-m": _pattern(N, _n_above_m),
    "sparsity-above-1": _pattern(SPARSITY, _above_one),
    "sparsity-negative": _pattern(SPARSITY, _negative),
    "sparsity-no-decimal": _pattern(SPARSITY, _no_decimal),
    "outlier-rows": _pattern(OUTLIERS, _outlier_rows),
    "damping-negative": _number("damping", lambda rng: -rng.randint(1, 999) / 100),
    "damping-no-number": _number("damping", lambda rng: rng.choice((0.0, np.inf, np.nan))),
    "weight-vector": _shape("weight", lambda W: W[0]),
    "weight-without-rows": _shape("weight", lambda W: W[:0]),
    "weight-integers": _shape("weight", lambda W: (8 * W).astype(np.int64)),
    "weight-not-finite": _entry("weight", lambda rng: rng.choice((np.nan, np.inf, -np.inf))),
    "gram-integers": _shape("gram", lambda G: (8 * G).astype(np.int64)),
    "gram-not-finite": _entry("gram", lambda rng: rng.choice((np.nan, np.inf, -np.inf))),
    "gram-too-small": _shape("gram", lambda G: G[:-1, :-1]),
    "gram-not-square": _shape("gram", lambda G: G[:, :-1]),
    "gram-negative-diagonal": _negative_diagonal,
    "gram-dead-but-not-empty": _dead_but_not_empty,
    "gram-asymmetric": _asymmetric,
    "gram-indefinite": _indefinite,
    "block-size-not-positive": _number("block_size", lambda rng: -rng.randint(0, 99)),
    "block-size-no-whole-number": _number("block_size", lambda rng: rng.randint(1, 9) + 0.5),
    "m-does-not-divide-columns": _pattern(M, _m_does_not_divide, block_size=99),
    "block-size-no-multiple-of-m": _block_of_other_groups,
}
