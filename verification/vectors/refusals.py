"""Inputs that every implementation must refuse: the table of spec section 2.

Every input has one offence, but for `refusal-first-...`, which have two and judge the order.
"""

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
DEAD_BUT_NOT_EMPTY = GRAM.copy()
DEAD_BUT_NOT_EMPTY[0, 0] = 0.0
DEAD_BUT_NOT_EMPTY[0, 1] = DEAD_BUT_NOT_EMPTY[1, 0] = 2.0**-30
SLIGHTLY_NEGATIVE = -(2.0**-10)  # the damping mends it: H is definite


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
    block_size: float = 4
    damping: float = 0.0078125

    @property
    def id(self) -> str:
        """`refusal-name`."""
        return f"refusal-{self.name}"


# A message may name an argument of the text form, or the whole pattern.
PATTERN = ("pattern",)
SPARSITY, OUTLIERS = ("sparsity", "pattern"), ("outlier_rows", "pattern")
N, M = ("n", "pattern"), ("m", "pattern")
COLUMNS = (*SPARSITY, "outlier_rows")
DAMPING, WEIGHTS, GRAMS, BLOCK = ("damping",), ("weight",), ("gram",), ("block_size",)


def refusals() -> Iterator[Refusal]:
    """All of them."""
    yield from _patterns()
    yield from _legal_decimals()
    yield from _numbers()
    yield from _matrices()
    yield from _grams()
    yield from _two_offences()


def _patterns() -> Iterator[Refusal]:
    for name, pattern, names, value in (
        ("sparsity-is-1", "unstructured:1.0", SPARSITY, "1"),
        ("sparsity-negative", "structured:-0.1", SPARSITY, "-0.1"),
        ("sparsity-nan", "unstructured:nan", SPARSITY, "nan"),
        ("sparsity-no-number", "unstructured:half", SPARSITY, "half"),
        ("sparsity-hexadecimal", "unstructured:0x1p-1", SPARSITY, "0x1p-1"),
        ("sparsity-exponent-without-digits", "unstructured:5e", SPARSITY, "5e"),
        ("sparsity-exponent-of-five-digits", "unstructured:5e-00001", SPARSITY, "5e-00001"),
        ("sparsity-two-points", "structured:0.2.5", SPARSITY, "0.2.5"),
        ("alpha-is-1", "2:4+outliers:1", OUTLIERS, "1"),
        ("alpha-negative", "structured:0.25+outliers:-0.5", OUTLIERS, "-0.5"),
        ("alpha-nan", "2:4+outliers:nan", OUTLIERS, "nan"),
        ("alpha-hexadecimal", "structured:0.25+outliers:0x1p-2", OUTLIERS, "0x1p-2"),
        ("m-is-0", "0:0", M, "0"),
        ("n-above-m", "5:4", N, "5"),
        ("n-negative", "-1:4", N, "-1"),
        ("n-with-sign", "+2:4", N, "2"),
        ("n-no-whole-number", "1.5:4", N, "1.5"),
        ("n-of-ten-digits", "0000000002:4", N, "2"),
        ("no-pattern", "2:4:6", PATTERN, "2:4:6"),
        ("unstructured-outliers", "unstructured:0.5+outliers:0.5", PATTERN, "0.5"),
        ("unstructured-outliers-0", "unstructured:0.5+outliers:0", PATTERN, "0.5"),
    ):
        yield Refusal(name, names, (value,), pattern=pattern)
    yield Refusal("sparsity-after-a-space", SPARSITY, pattern="unstructured: 0.5")
    yield Refusal("sparsity-underscore", SPARSITY, pattern="unstructured:0.5_0")
    yield Refusal("sparsity-not-ascii", SPARSITY, pattern="unstructured:0.\N{FULLWIDTH DIGIT FIVE}")
    yield Refusal("m-after-a-space", M, pattern="2: 4")
    for name, block_size in (("", 3), ("-of-one-block", 4)):
        yield Refusal(
            f"m-does-not-divide-columns{name}", M, ("3",), pattern="1:3", block_size=block_size
        )
    for name, pattern, values in (
        ("more-columns-than-there-are", "structured:0.9+outliers:0.5", ("0.9", "0.5")),
        # ⌈0.6 · 2⌉ rows are all rows: nothing would be removed, and 5 of 4 columns are refused.
        ("columns-where-all-rows-are-outliers", "structured:0.5+outliers:0.6", ("0.5", "0.6")),
    ):
        yield Refusal(name, COLUMNS, values, pattern=pattern)
    for method in ("magnitude", "wanda", "sparsegpt"):
        yield Refusal(f"outlier-rows-{method}", OUTLIERS, ("0.1",), method, "2:4+outliers:0.1")
        yield Refusal(f"outlier-rows-structured-{method}", OUTLIERS, ("0.1",), method,
                      "structured:0.25+outliers:0.1")  # fmt: skip


def _legal_decimals() -> Iterator[Refusal]:
    """A legal decimal is read: the damping is at fault, and only the damping."""
    for spelling, p in (
        ("sign", "+0.5"), ("no-digit-before", ".5"), ("no-digit-after", "0."), ("exponent", "5e-1"),
        ("upper-case", "0.05E+1"), ("negative-zero", "-0"),
    ):  # fmt: skip
        yield Refusal(
            f"legal-decimal-{spelling}", DAMPING, ("-1",), pattern=f"unstructured:{p}", damping=-1.0
        )


def _numbers() -> Iterator[Refusal]:
    yield Refusal("m-does-not-divide-block", BLOCK, ("2",), pattern="2:4", block_size=2)
    yield Refusal("block-size-0", BLOCK, ("0",), block_size=0)
    yield Refusal("block-size-0-nm", BLOCK, ("0",), pattern="2:4", block_size=0)
    yield Refusal("block-size-0-structured", BLOCK, ("0",), pattern="structured:0.5", block_size=0)
    yield Refusal("block-size-negative", BLOCK, ("-2",), block_size=-2)
    yield Refusal("block-size-no-whole-number", BLOCK, ("2.5",), block_size=2.5)
    for method in ("magnitude", "wanda"):  # they do not use B
        yield Refusal(f"block-size-0-{method}", BLOCK, ("0",), method, block_size=0)
    yield Refusal("damping-0", DAMPING, ("0",), damping=0.0)
    yield Refusal("damping-negative", DAMPING, ("-1",), damping=-1.0)
    yield Refusal("damping-nan", DAMPING, ("nan",), damping=float("nan"))
    yield Refusal("damping-infinite", DAMPING, ("inf",), damping=float("inf"))


def _matrices() -> Iterator[Refusal]:
    yield Refusal("weight-vector", WEIGHTS, weight=WEIGHT[0])
    yield Refusal("weight-stack", WEIGHTS, weight=WEIGHT[None])
    yield Refusal("weight-no-rows", WEIGHTS, weight=WEIGHT[:0])
    yield Refusal("weight-integers", WEIGHTS, weight=WEIGHT.astype(np.int64))
    yield Refusal("weight-nan", WEIGHTS, ("nan",), weight=_changed(WEIGHT, (1, 2), np.nan))
    yield Refusal("weight-infinite", WEIGHTS, ("-inf",), weight=_changed(WEIGHT, (1, 2), -np.inf))
    yield Refusal("gram-vector", GRAMS, gram=np.ones(16))
    yield Refusal("gram-too-small", GRAMS, gram=GRAM[:3, :3])
    yield Refusal("gram-too-large", GRAMS, gram=np.diag([1.0, 2.0, 3.0, 4.0, 5.0]))
    yield Refusal("gram-not-square", GRAMS, gram=GRAM[:, :3])
    yield Refusal("gram-integers", GRAMS, gram=GRAM.astype(np.int64))
    yield Refusal("gram-nan", GRAMS, ("nan",), gram=_changed(GRAM, (3, 3), np.nan))
    yield Refusal("gram-infinite", GRAMS, ("inf",), gram=_changed(GRAM, (0, 1), np.inf))


def _grams() -> Iterator[Refusal]:
    yield Refusal("gram-asymmetric", GRAMS, gram=_changed(GRAM, (0, 1), 2.0**-10))
    for name, scale in SCALES.items():
        yield Refusal(f"gram-asymmetric-{name}", GRAMS, gram=asymmetric(scale, 2.0**-16))
    for name, entry, damping in (
        ("", -1.0, 1.0),
        ("-mended-by-damping", SLIGHTLY_NEGATIVE, 0.0078125),
    ):
        yield Refusal(f"gram-negative-diagonal{name}", GRAMS, (repr(entry),),
                      gram=_changed(GRAM, (2, 2), entry), damping=damping)  # fmt: skip
    yield Refusal("gram-dead-but-not-empty", GRAMS, gram=DEAD_BUT_NOT_EMPTY)
    for method in ("thanos", "magnitude", "wanda", "sparsegpt"):
        yield Refusal(f"gram-indefinite-{method}", GRAMS, method=method, gram=INDEFINITE)


# Offences by the row of the table: name, words and values of the message, and what is changed.
_ROWS: dict[int, tuple[str, tuple[str, ...], tuple[str, ...], dict[str, Any]]] = {
    1: ("pattern", PATTERN, ("2:4:6",), {"pattern": "2:4:6"}),
    2: ("m", M, ("0",), {"pattern": "0:0"}),
    3: ("n", N, ("5",), {"pattern": "5:4"}),
    4: ("p", SPARSITY, ("1.5",), {"pattern": "structured:1.5"}),
    5: ("alpha", OUTLIERS, ("2",), {"pattern": "structured:0.25+outliers:2"}),
    6: ("outlier-rows", OUTLIERS, ("0.1",),
        {"method": "wanda", "pattern": "structured:0.25+outliers:0.1"}),
    8: ("damping", DAMPING, ("-1",), {"damping": -1.0}),
    9: ("weight-shape", WEIGHTS, (), {"weight": WEIGHT[0]}),
    10: ("weight-type", WEIGHTS, (), {"weight": WEIGHT.astype(np.int64)}),
    11: ("weight", WEIGHTS, ("nan",), {"weight": _changed(WEIGHT, (1, 2), np.nan)}),
    12: ("gram", GRAMS, ("inf",), {"gram": _changed(GRAM, (0, 1), np.inf)}),
    13: ("gram-shape", GRAMS, (), {"gram": GRAM[:3, :3]}),
    14: ("negative", GRAMS, (repr(SLIGHTLY_NEGATIVE),),
         {"gram": _changed(GRAM, (2, 2), SLIGHTLY_NEGATIVE)}),
    15: ("dead", GRAMS, (), {"gram": DEAD_BUT_NOT_EMPTY}),
    16: ("asymmetric", GRAMS, (), {"gram": _changed(GRAM, (0, 1), 2.0**-10)}),
    17: ("block", BLOCK, ("-2",), {"block_size": -2}),
    18: ("m-of-columns", M, ("3",), {"pattern": "1:3", "block_size": 3}),
    19: ("m-of-block", BLOCK, ("2",), {"pattern": "2:4", "block_size": 2}),
    20: ("columns", COLUMNS, ("0.9", "0.5"), {"pattern": "structured:0.9+outliers:0.5"}),
    21: ("indefinite", GRAMS, (), {"gram": INDEFINITE}),
}  # fmt: skip
# The rows of an input with two offences, and what neither row alone changes like this.
_PAIRS: dict[tuple[int, int], dict[str, Any]] = {
    (1, 8): {}, (2, 3): {"pattern": "1:0"}, (2, 5): {"pattern": "0:0+outliers:2"},
    (3, 5): {"pattern": "5:4+outliers:2"}, (4, 5): {"pattern": "structured:1.5+outliers:2"},
    (4, 6): {"pattern": "structured:1.5+outliers:0.1"}, (4, 8): {}, (5, 8): {}, (6, 8): {},
    **{(8, weight): {} for weight in (9, 10, 11)},
    **{(weight, 12): {} for weight in (9, 10, 11)},
    **{(11, gram): {} for gram in (13, 14, 15, 16)},
    **{(gram, 17): {} for gram in (12, 13, 14, 15, 16)},
    (17, 18): {"pattern": "1:3", "block_size": -2}, (17, 20): {}, (17, 21): {},
    (18, 19): {"block_size": 2}, (18, 21): {}, (19, 21): {}, (20, 21): {},
}  # fmt: skip


def _two_offences() -> Iterator[Refusal]:
    """The message must name the argument of the earlier row of the table."""
    for (first, second), changes in _PAIRS.items():
        name, names, values, offence = _ROWS[first]
        other, _, _, further = _ROWS[second]
        faults = {**further, **offence, **changes}
        yield Refusal(f"first-{name}-before-{other}", names, values, **faults)
    yield Refusal(
        "first-weight-without-columns-before-gram", WEIGHTS, weight=WEIGHT[:, :0], gram=GRAM[:0, :0]
    )
