"""The description of a deliberately wrong implementation: its bug and what must catch it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.judge.wrong.arrays import Floats
from tests.judge.wrong.right import Right

ALL = ("unstructured", "n:m", "structured", "outlier-rows")
IN_BLOCKS = ("unstructured", "n:m", "outlier-rows")  # structured pruning of Thanos has no blocks

# Conditions on a call, beyond its pattern, under which a bug with the feature shows.
FEATURES = {
    "long-decimals": "p and alpha have so many digits that they are rounder numbers in binary",
    "spelled": "p is written with an exponent",
    "nothing-removed": "p or n is 0",
    "all-columns": "every column goes",
    "all-rows": "every row is an outlier row",
    "binary-count": "p times the weights is exact as a decimal and not in binary floating point",
    "uneven-count": "p times the weights, or columns, is no whole number",
    "uneven-outliers": "alpha times the rows is no whole number",
    "n-not-half": "n is not m/2",
    "m-above-1": "m is more than 1",
    "structured-outliers": "a pattern with outlier rows is structured, not n:m",
    "few-removed": "so few weights go, or outlier rows lose none, that a row loses none of a block",
    "dead-columns": "some columns have no input",
    "zero-gram": "no column has an input",
    "ties": "all columns have the same norm and weights are equal: only the expected mask shows it",
    "tied-columns": "columns are the same but for their signs",
    "close-scores": "scores differ by less than the rounding of float32, and so do outputs of rows",
    "quiet-inputs": "the mean of diag G is near 1",
    "loud-inputs": "some G_jj exceed the largest float16",
    "loud-row": "one row has far larger weights than the others",
    "spiky-rows": "a few weights are far larger than the others of their columns",
    "cancelling-row": "large weights of one row cancel over correlated inputs",
    "tied-products": "weights and norms differ, their products tie",
    "tied-rows": "most rows are one loud row, whose sign differs",
    "quiet-heavy-row": "one row has large weights for quiet inputs, and no large h",
    "nearly-symmetric": "G differs from its transpose by less than what is refused",
    "stored-float16": "the weight is stored as float16",
    "stored-bfloat16": "the weight is stored as bfloat16",
    "ragged-last-block": "B does not divide b",
    "fortran-order": "the weight is stored column by column",
    "single-precision": "the arrays are float32",
    "one-column-blocks": "B = 1",
    "wide-block": "B > b",
    "block-of-256": "B is at least 256",
    "many-blocks": "B < b",
    "refused": "the call is one that section 2 refuses",
}


@dataclass(frozen=True)
class Wrong:
    """One bug.

    bug        what is wrong
    kind       the right implementation with the bug
    check      the check that must fail: one of `certify`, or output, input, refusals
    diagnosis  key of the explanation that must come first; None if there is none
    method     the method that it claims to be
    patterns   kinds of patterns on which it shows. "outlier-rows" stands for n:m with outlier rows,
               and for structured with outlier rows if "structured" is listed or nothing else is
    features   keys of FEATURES that a call needs for the bug to show
    argument   refusals: the spoiled call, one of `layers.REFUSED`, that it does not refuse properly
    """

    bug: str
    kind: type[Right]
    check: str
    diagnosis: str | None
    method: str = "thanos"
    patterns: tuple[str, ...] = ALL
    features: tuple[str, ...] = ()
    argument: str = ""

    def run(
        self, weight: Floats, gram: Floats, pattern: str, block_size: int, damping: float
    ) -> tuple[Any, Any]:
        """Prune one layer; returns (weight, mask)."""
        return self.kind(weight, gram, pattern, block_size, damping).run(self.method)


def with_step(**steps: Callable[..., Any]) -> type[Right]:
    """The right implementation with some of its steps replaced by other functions of self."""
    return type("Changed", (Right,), dict(steps))


def with_arguments(**changes: Callable[[Right], Any]) -> type[Right]:
    """The right implementation with some attributes of self changed before anything is checked."""

    def run(self: Right, method: str) -> tuple[Any, Any]:
        for name, change in changes.items():
            setattr(self, name, change(self))
        return Right.run(self, method)

    return with_step(run=run)


def failing(where: Callable[[Right], bool], error: Exception) -> type[Right]:
    """The right implementation, which fails on some legal calls."""

    def refuse(self: Right, method: str) -> None:
        Right.refuse(self, method)
        if where(self):
            raise error

    return with_step(refuse=refuse)
