"""Inputs that every implementation must refuse: the table of spec section 2."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verification.vectors.special import SCALES, asymmetric

Matrix = NDArray[Any]


def _changed(matrix: Matrix, place: tuple[int, int], value: float) -> Matrix:
    copy = matrix.copy()
    copy[place] = value
    return copy


WEIGHT = np.arange(1.0, 9.0).reshape(2, 4)
GRAM = np.diag([1.0, 2.0, 3.0, 4.0])
INDEFINITE = GRAM.copy()
INDEFINITE[0, 1] = INDEFINITE[1, 0] = 4.0


@dataclass(frozen=True)
class Refusal:
    """One input that must be refused.

    names   words of which the message must hold one
    values  numbers or texts of which the message must hold one; empty if no single value is wrong
    """

    name: str
    names: tuple[str, ...]
    values: tuple[str, ...] = ()
    method: str = "thanos"
    pattern: str = "unstructured:0.5"
    weight: Matrix = field(default_factory=lambda: WEIGHT)
    gram: Matrix = field(default_factory=lambda: GRAM)
    block_size: float = 2
    damping: float = 0.0078125

    @property
    def id(self) -> str:
        """`refusal-name`."""
        return f"refusal-{self.name}"


# A message may name an argument of the text form, or the whole pattern.
SPARSITY, OUTLIERS = ("sparsity", "pattern"), ("outlier_rows", "pattern")
N, M = ("n", "pattern"), ("m", "pattern")


def refusals() -> Iterator[Refusal]:
    """All of them."""
    for name, pattern, names, value in (
        ("sparsity-is-1", "unstructured:1.0", SPARSITY, "1"),
        ("sparsity-negative", "structured:-0.1", SPARSITY, "-0.1"),
        ("sparsity-nan", "unstructured:nan", SPARSITY, "nan"),
        ("sparsity-no-number", "unstructured:half", SPARSITY, "half"),
        ("sparsity-hexadecimal", "unstructured:0x1p-1", SPARSITY, "0x1p-1"),
        ("sparsity-exponent-without-digits", "unstructured:5e", SPARSITY, "5e"),
        ("alpha-is-1", "2:4+outliers:1", OUTLIERS, "1"),
        ("alpha-negative", "structured:0.25+outliers:-0.5", OUTLIERS, "-0.5"),
        ("m-is-0", "0:0", M, "0"),
        ("n-above-m", "5:4", N, "5"),
        ("n-negative", "-1:4", N, "-1"),
        ("n-no-whole-number", "1.5:4", N, "1.5"),
        ("no-pattern", "2:4:6", ("pattern",), "2:4:6"),
        ("m-does-not-divide-columns", "1:3", M, "3"),
    ):
        yield Refusal(name, names, (value,), pattern=pattern)
    yield Refusal("m-does-not-divide-columns-of-one-block", M, ("3",), pattern="1:3", block_size=4)
    yield Refusal(
        "more-columns-than-there-are",
        (*SPARSITY, "outlier_rows"),
        ("0.9", "0.5"),
        pattern="structured:0.9+outliers:0.5",
    )
    yield Refusal("sparsity-after-a-space", SPARSITY, pattern="unstructured: 0.5")
    yield from _numbers()
    yield from _matrices()
    yield from _grams()
    yield from _two_faults()
    for method in ("magnitude", "wanda", "sparsegpt"):
        yield Refusal(f"outlier-rows-{method}", OUTLIERS, ("0.1",), method, "2:4+outliers:0.1")


def _numbers() -> Iterator[Refusal]:
    block, damping = ("block_size",), ("damping",)
    yield Refusal("m-does-not-divide-block", block, ("2",), pattern="2:4", block_size=2)
    yield Refusal("block-size-0", block, ("0",), block_size=0)
    yield Refusal("block-size-0-nm", block, ("0",), pattern="2:4", block_size=0)
    yield Refusal("block-size-0-structured", block, ("0",), pattern="structured:0.5", block_size=0)
    yield Refusal("block-size-negative", block, ("-2",), block_size=-2)
    yield Refusal("block-size-no-whole-number", block, ("2.5",), block_size=2.5)
    yield Refusal("damping-0", damping, ("0",), damping=0.0)
    yield Refusal("damping-negative", damping, ("-1",), damping=-1.0)
    yield Refusal("damping-nan", damping, ("nan",), damping=float("nan"))
    yield Refusal("damping-infinite", damping, ("inf",), damping=float("inf"))


def _matrices() -> Iterator[Refusal]:
    weight, gram = ("weight",), ("gram",)
    yield Refusal("weight-vector", weight, weight=WEIGHT[0])
    yield Refusal("weight-stack", weight, weight=WEIGHT[None])
    yield Refusal("weight-no-rows", weight, weight=WEIGHT[:0])
    yield Refusal("weight-no-columns", weight, weight=WEIGHT[:, :0], gram=GRAM[:0, :0])
    yield Refusal("weight-integers", weight, weight=WEIGHT.astype(np.int64))
    yield Refusal("weight-nan", weight, ("nan",), weight=_changed(WEIGHT, (1, 2), np.nan))
    yield Refusal("weight-infinite", weight, ("-inf",), weight=_changed(WEIGHT, (1, 2), -np.inf))
    yield Refusal("gram-too-small", gram, gram=GRAM[:3, :3])
    yield Refusal("gram-not-square", gram, gram=GRAM[:, :3])
    yield Refusal("gram-integers", gram, gram=GRAM.astype(np.int64))
    yield Refusal("gram-nan", gram, ("nan",), gram=_changed(GRAM, (3, 3), np.nan))
    yield Refusal("gram-infinite", gram, ("inf",), gram=_changed(GRAM, (0, 1), np.inf))


def _grams() -> Iterator[Refusal]:
    gram = ("gram",)
    yield Refusal("gram-asymmetric", gram, gram=_changed(GRAM, (0, 1), 2.0**-10))
    for name, scale in SCALES.items():
        yield Refusal(f"gram-asymmetric-{name}", gram, gram=asymmetric(scale, 2.0**-16))
    for name, entry in (("", -1.0), ("-mended-by-damping", -(2.0**-10))):
        yield Refusal(f"gram-negative-diagonal{name}", gram, (repr(entry),),
                      gram=_changed(GRAM, (2, 2), entry))  # fmt: skip
    dead = GRAM.copy()
    dead[0, 0], dead[0, 1], dead[1, 0] = 0.0, 2.0**-30, 2.0**-30
    yield Refusal("gram-dead-but-not-empty", gram, gram=dead)
    for method in ("thanos", "magnitude", "wanda", "sparsegpt"):
        yield Refusal(f"gram-indefinite-{method}", gram, method=method, gram=INDEFINITE)


def _two_faults() -> Iterator[Refusal]:
    """Inputs with two faults: the message must name that of the earlier row of the table."""
    damping, block = ("damping",), ("block_size",)
    columns = (*SPARSITY, "outlier_rows")
    nan = _changed(WEIGHT, (1, 2), np.nan)
    infinite, negative = _changed(GRAM, (0, 1), np.inf), _changed(GRAM, (2, 2), -1.0)
    for name, names, values, faults in (
        ("p-before-alpha", SPARSITY, ("1.5",), {"pattern": "structured:1.5+outliers:2"}),
        ("n-before-alpha", N, ("5",), {"pattern": "5:4+outliers:2"}),
        ("p-before-damping", SPARSITY, ("1.5",), {"pattern": "unstructured:1.5", "damping": -1.0}),
        ("outlier-rows-before-damping", OUTLIERS, ("0.1",),
         {"method": "wanda", "pattern": "2:4+outliers:0.1", "damping": -1.0}),
        ("damping-before-weight", damping, ("-1",), {"damping": -1.0, "weight": nan}),
        ("weight-before-gram", ("weight",), ("nan",), {"weight": nan, "gram": infinite}),
        ("gram-before-block", ("gram",), ("-1",), {"gram": negative, "block_size": -2}),
        ("block-before-m", block, ("-2",), {"pattern": "1:3", "block_size": -2}),
        ("block-before-columns", block, ("-2",),
         {"pattern": "structured:0.9+outliers:0.5", "block_size": -2}),
        ("m-before-indefinite", M, ("3",),
         {"pattern": "1:3", "block_size": 4, "gram": INDEFINITE}),
        ("block-before-indefinite", block, ("2",), {"pattern": "2:4", "gram": INDEFINITE}),
        ("columns-before-indefinite", columns, ("0.9", "0.5"),
         {"pattern": "structured:0.9+outliers:0.5", "gram": INDEFINITE}),
        # ⌈0.6 · 2⌉ rows are all rows: nothing would be removed, and 5 of 4 columns are refused.
        ("columns-where-all-rows-are-outliers", columns, ("0.5", "0.6"),
         {"pattern": "structured:0.5+outliers:0.6"}),
        # A legal decimal is read: the damping is at fault.
        *((f"legal-decimal-{spelling}", damping, ("-1",),
           {"pattern": f"unstructured:{p}", "damping": -1.0})
          for spelling, p in (("sign", "+0.5"), ("no-digit-before", ".5"), ("no-digit-after", "0."),
                              ("exponent", "5e-1"), ("upper-case", "0.05E+1"))),
    ):  # fmt: skip
        yield Refusal(f"first-{name}", names, values, **faults)  # type: ignore[arg-type]
