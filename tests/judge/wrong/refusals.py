"""Bugs in what is refused: something passes silently, or the message does not name it."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from reference.inputs import checked_weight
from reference.patterns import Pattern, SemiStructured, Unstructured
from tests.judge.wrong.arrays import Array, Floats, Mask
from tests.judge.wrong.bug import Wrong, with_arguments, with_step
from tests.judge.wrong.right import Right


class NotNamed(Right):
    """All refusals have one message, which does not say what is wrong."""

    def refuse(self, method: str) -> None:
        try:
            super().refuse(method)
        except ValueError:
            raise ValueError("invalid input") from None


class AllColumnsAtMost(Right):
    """p > 1 - α is missed silently, as in the published code: at most all columns go."""

    def refuse_pattern(self) -> None:
        pass

    def columns_removed(self, columns: int) -> int:
        return min(super().columns_removed(columns), columns)


class EverythingRemoved(Right):
    """p = 1 is taken, because the test of the range is `0 <= p <= 1`."""

    def parsed(self, pattern: str) -> Pattern:
        self.everything = pattern in ("unstructured:1", "unstructured:1.0")
        return Unstructured(0) if self.everything else super().parsed(pattern)

    def weights_removed(self, weights: int) -> int:
        return weights if self.everything else super().weights_removed(weights)


class MoreDamping(Right):
    """The damping grows until H can be factorised, whatever was asked for."""

    def factor(self) -> Array:
        try:
            return super().factor()
        except ValueError:
            self.damping *= 10
            self.H = self.hessian()
            return self.factor()


def reading(change: Callable[[str], str]) -> type[Right]:
    """The right implementation, which reads another text than the one that it gets."""
    return with_step(parsed=lambda self, pattern: Right.parsed(self, change(pattern)))


def by_number(to_number: Callable[[str], float]) -> type[Right]:
    """The right implementation, which leaves it to its language what a number is."""

    def parsed(self: Right, pattern: str) -> Pattern:
        kind, _, p = pattern.partition(":")
        if kind == "unstructured":
            return Unstructured(to_number(p))
        return Right.parsed(self, pattern)

    return with_step(parsed=parsed)


def hexadecimal(text: str) -> float:
    """What `strtod` of C makes of a text."""
    return float.fromhex(text) if "x" in text else float(text)


class NegativeTakenForZero(Right):
    """A negative entry of the diagonal of gram is a rounding error of 0."""

    def run(self, method: str) -> tuple[Any, Any]:
        self.given_gram = self.given_gram.copy()
        np.fill_diagonal(self.given_gram, np.diag(self.given_gram).clip(0))
        return super().run(method)


def dead_rows_emptied(self: Right) -> Floats:
    dead = np.diag(self.given_gram) == 0
    return np.where(dead | dead[:, None], 0.0, self.given_gram)


def fitting_part(self: Right) -> Floats:
    columns = self.given_weight.shape[1]
    return self.given_gram[:columns, :columns]


class NarrowGroups(Right):
    """Groups that do not fit are filled up with columns that never go."""

    def refuse_pattern(self) -> None:
        pass

    def of_each_group(self, values: Array) -> Mask:
        assert isinstance(self.pattern, SemiStructured)
        missing = -values.shape[1] % self.pattern.m
        filled = np.pad(values, ((0, 0), (0, missing)), constant_values=np.inf)
        return super().of_each_group(filled)[:, : values.shape[1]]


class Unpruned(Right):
    """What should be refused comes back unpruned, after a line in a log that nobody reads."""

    def run(self, method: str) -> tuple[Any, Any]:
        try:
            return super().run(method)
        except ValueError:
            return self.given_weight.copy(), np.zeros(self.given_weight.shape, dtype=bool)


class MatricesFirst(Right):
    """The matrices are checked before the damping."""

    def refuse(self, method: str) -> None:
        checked_weight(self.given_weight)
        super().refuse(method)


def _bug(name: str, kind: type[Right], refused: str, pattern: str, method: str = "thanos") -> Wrong:
    return Wrong(name, kind, "refusals", None, method, (pattern,), ("refused",), refused)


LAYER = "unstructured"
FREE_BLOCKS = with_arguments(block_size=lambda self: max(int(self.block_size), 1))

WRONG = [
    # Nothing is checked: garbage in, garbage out.
    _bug("nothing refused", with_step(refuse=lambda self, method: None), "weight-nan", LAYER),
    _bug("refusals name nothing", NotNamed, "weight-nan", LAYER),
    _bug("p > 1 - alpha accepted", AllColumnsAtMost, "too-many-columns", "outlier-rows"),
    _bug("p = 1 accepted", EverythingRemoved, "sparsity-one", LAYER),
    # What follows the share of an unstructured pattern is dropped.
    _bug("outlier rows of an unstructured pattern dropped",
         reading(lambda text: text.split("+outliers")[0] if text.startswith("un") else text),
         "unstructured-outliers", LAYER),
    # Groups of no columns: nothing is removed.
    _bug("m = 0 accepted", reading(lambda text: "0:1" if text.endswith(":0") else text),
         "m-zero", "n:m"),
    _bug("n above m taken for m", reading(lambda text: re.sub(
        r"^(\d+):(\d+)", lambda found: f"{min(int(found[1]), int(found[2]))}:{found[2]}", text)),
         "n-above-m", "n:m"),
    _bug("n of ten digits accepted", reading(lambda text: re.sub(r"^0+(?=\d+:)", "", text)),
         "n-of-ten-digits", "n:m"),
    # With alpha = 1 all rows are outlier rows, and nothing is removed.
    _bug("alpha = 1 accepted", reading(lambda text: re.sub(
        r"^(\d+):(\d+).outliers:1$|^structured.*outliers:1$", "0:1", text)),
         "alpha-one", "outlier-rows"),
    _bug("p as Python reads it", by_number(float), "sparsity-underscore", LAYER),
    _bug("p as C reads it", by_number(hexadecimal), "sparsity-hexadecimal", LAYER),
    _bug("p with a long exponent accepted", by_number(float), "sparsity-long-exponent", LAYER),
    _bug("columns not counted if all rows are outliers", AllColumnsAtMost,
         "too-many-columns-of-no-row", "outlier-rows"),
    # What comes back has another shape, and the judge says so.
    Wrong("vector taken for one row",
          with_arguments(given_weight=lambda self: np.atleast_2d(self.given_weight)),
          "output", None, patterns=(LAYER,), features=("refused",), argument="weight-vector"),
    _bug("NaN in gram taken for 0",
         with_arguments(given_gram=lambda self: np.nan_to_num(self.given_gram)),
         "gram-nan", LAYER),
    _bug("negative diagonal taken for 0", NegativeTakenForZero, "gram-negative", LAYER),
    # What a method does not use is not looked at.
    _bug("B not checked for structured patterns", FREE_BLOCKS, "block-size-zero-structured",
         "structured"),
    _bug("magnitude: B not checked", FREE_BLOCKS, "block-size-zero", LAYER, method="magnitude"),
    _bug("Wanda: indefinite gram accepted",
         with_step(factor=lambda self: np.eye(len(self.H))),
         "gram-indefinite", LAYER, method="wanda"),
    # NaN is replaced by zero, so that the run does not break.
    _bug("NaN taken for 0",
         with_arguments(given_weight=lambda self: np.nan_to_num(self.given_weight)),
         "weight-nan", LAYER),
    # A matrix of integers is converted; the weight goes back as integers, cut off.
    _bug("integers accepted", with_step(refuse=lambda self, method: None),
         "weight-integers", LAYER),
    # Any gram is replaced by the mean of itself and its transpose.
    _bug("asymmetry averaged",
         with_arguments(given_gram=lambda self: (self.given_gram + self.given_gram.T) / 2),
         "gram-asymmetric", LAYER),
    # A zero on the diagonal of gram counts as a dead column, whatever its row holds.
    _bug("dead row that is not empty accepted", with_arguments(given_gram=dead_rows_emptied),
         "gram-dead-row", LAYER),
    _bug("more damping until H is definite", MoreDamping, "gram-indefinite", LAYER),
    # Of a gram that is too large the part that fits is taken.
    _bug("larger gram cut", with_arguments(given_gram=fitting_part), "gram-too-large", LAYER),
    # `damping or 0.01`: a damping of 0 is taken for none at all.
    _bug("damping 0 taken for the default",
         with_arguments(damping=lambda self: self.damping or 0.01),
         "damping-zero", LAYER),
    # B = 0 means one block for the whole layer, as in some libraries.
    _bug("B = 0 taken for one block",
         with_arguments(block_size=lambda self: self.block_size or self.given_weight.shape[1]),
         "block-size-zero", LAYER),
    _bug("last group narrower", NarrowGroups, "columns-by-m", "n:m"),
    _bug("group across a block border", NarrowGroups, "block-size-by-m", "n:m"),
    # A baseline takes a pattern with outlier rows and prunes them all.
    _bug("Wanda: outlier rows ignored",
         with_step(refuse=lambda self, method: Right.refuse(self, "thanos")),
         "outlier-rows", "outlier-rows", method="wanda"),
    _bug("weight checked before damping", MatricesFirst, "damping-zero-and-weight-nan", LAYER),
    _bug("unpruned instead of refused", Unpruned, "gram-asymmetric", LAYER),
]  # fmt: skip
