"""Bugs in what is refused: something passes silently, or the message does not name it."""

from typing import Any

import numpy as np

from reference.patterns import Pattern, SemiStructured, Structured, Unstructured
from tests.judge.wrong.arrays import Array, Floats, Mask
from tests.judge.wrong.bug import Wrong, bug, with_step
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

    def refuse_columns(self, pattern: Structured) -> None:
        pass

    def columns_removed(self, columns: int) -> int:
        return min(super().columns_removed(columns), columns)


class EverythingRemoved(Right):
    """p = 1 is taken, because the test of the range is `0 <= p <= 1`."""

    def parsed(self, pattern: str) -> Pattern:
        self.everything = pattern == "unstructured:1"
        return Unstructured(0) if self.everything else super().parsed(pattern)

    def weights_removed(self, weights: int) -> int:
        return weights if self.everything else super().weights_removed(weights)


class NaNAsZero(Right):
    """NaN is replaced by zero, so that the run does not break."""

    def refuse_matrix(self, name: str, matrix: Floats) -> None:
        super().refuse_matrix(name, np.nan_to_num(matrix))

    def read(self, matrix: Floats) -> Array:
        return np.nan_to_num(super().read(matrix))


class DeadRowTaken(Right):
    """A zero on the diagonal of gram counts as a dead column, whatever its row holds."""

    def refuse_diagonal(self) -> None:
        if (np.diag(self.given_gram) < 0).any():
            super().refuse_diagonal()


class MoreDamping(Right):
    """The damping grows until H can be factorised, whatever was asked for."""

    def factor(self) -> Array:
        try:
            return super().factor()
        except ValueError:
            self.damping *= 10
            self.H = self.hessian()
            return self.factor()


class LargerGramCut(Right):
    """Of a gram that is too large the part that fits is taken."""

    def refuse_shapes(self) -> None:
        columns = self.given_weight.shape[1]
        self.given_gram = self.given_gram[:columns, :columns]
        super().refuse_shapes()


class DefaultDamping(Right):
    """`damping or 0.01`: a damping of 0 is taken for none at all."""

    def refuse_damping(self) -> None:
        self.damping = self.damping or 0.01
        super().refuse_damping()


class WholeLayerForZero(Right):
    """B = 0 means one block for the whole layer, as in some libraries."""

    def refuse_block_size(self) -> None:
        self.block_size = self.block_size or self.given_weight.shape[1]
        super().refuse_block_size()


class NarrowGroups(Right):
    """Groups that do not fit are filled up with columns that never go."""

    def refuse_groups(self, pattern: SemiStructured) -> None:
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
        self.refuse_matrix("weight", self.given_weight)
        super().refuse(method)


def _bug(name: str, kind: type[Right], refused: str, pattern: str, method: str = "thanos") -> Wrong:
    return bug(name, kind, "refusals", None, method, (pattern,), ("refused",), refused)


LAYER = "unstructured"

WRONG = [
    # Nothing is checked: garbage in, garbage out.
    _bug("nothing refused", with_step(refuse=lambda self, method: None), "weight-nan", LAYER),
    _bug("refusals name nothing", NotNamed, "weight-nan", LAYER),
    _bug("p > 1 - alpha accepted", AllColumnsAtMost, "too-many-columns", "outlier-rows"),
    _bug("p = 1 accepted", EverythingRemoved, "sparsity-one", LAYER),
    _bug("NaN taken for 0", NaNAsZero, "weight-nan", LAYER),
    # A matrix of integers is converted; the weight goes back as integers, cut off.
    _bug("integers accepted",
         with_step(refuse_matrix=lambda self, name, matrix: Right.refuse_matrix(
             self, name, matrix.astype(np.float64))),
         "weight-integers", LAYER),
    # Any gram is replaced by the mean of itself and its transpose.
    _bug("asymmetry averaged", with_step(refuse_asymmetry=lambda self: None),
         "gram-asymmetric", LAYER),
    _bug("dead row that is not empty accepted", DeadRowTaken, "gram-dead-row", LAYER),
    _bug("more damping until H is definite", MoreDamping, "gram-indefinite", LAYER),
    _bug("larger gram cut", LargerGramCut, "gram-too-large", LAYER),
    _bug("damping 0 taken for the default", DefaultDamping, "damping-zero", LAYER),
    _bug("B = 0 taken for one block", WholeLayerForZero, "block-size-zero", LAYER),
    _bug("last group narrower", NarrowGroups, "columns-by-m", "n:m"),
    _bug("group across a block border", NarrowGroups, "block-size-by-m", "n:m"),
    # A baseline takes a pattern with outlier rows and prunes them all.
    _bug("Wanda: outlier rows ignored", with_step(refuse_outlier_rows=lambda self, pattern: None),
         "outlier-rows", "outlier-rows", method="wanda"),
    _bug("weight checked before damping", MatricesFirst, "damping-zero-and-weight-nan", LAYER),
    _bug("unpruned instead of refused", Unpruned, "gram-asymmetric", LAYER),
]  # fmt: skip
