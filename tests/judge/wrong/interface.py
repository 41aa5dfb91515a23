"""Bugs in what is taken and handed back, while the mathematics is right."""

import re
from typing import Any

import numpy as np

from reference.patterns import Pattern, Structured
from tests.judge.wrong.arrays import Array, Mask
from tests.judge.wrong.bug import IN_BLOCKS, Wrong, failing, with_step
from tests.judge.wrong.right import Right


class WeightOverwritten(Right):
    """The weight is pruned in place, as the published code does with that of a module."""

    def handed_back(self, weights: Array, mask: Mask) -> tuple[Any, Any]:
        result, _ = super().handed_back(weights, mask)
        self.given_weight[...] = result
        return result, mask


class GramOverwritten(Right):
    """The damping is added to the diagonal of the caller's Gram matrix."""

    def hessian(self) -> Array:
        H = super().hessian()
        np.fill_diagonal(self.given_gram, np.diag(H))
        return H


def plain_decimals(parsed: Pattern, text: str) -> Pattern:
    """The pattern; raises ValueError for legal decimals that few people write."""
    if not re.fullmatch(r"\d+:\d+|.*:\d(\.\d+)?", text):
        raise ValueError(f"sparsity must be a decimal, got {text!r}")
    return parsed


WRONG = [
    Wrong("weight overwritten", WeightOverwritten, "input", None),
    Wrong("gram overwritten", GramOverwritten, "input", None),
    # The numbers are read in the order of memory, as through a pointer: C order is assumed.
    Wrong("strides ignored",
        with_step(read=lambda self, matrix: Right.read(
            self, matrix.ravel(order="K").reshape(matrix.shape))),
        "updates", None, features=("fortran-order",)),
    # The weight comes back as (columns, rows).
    Wrong("weight transposed",
        with_step(handed_back=lambda self, weights, mask: Right.handed_back(self, weights.T, mask)),
        "output", None),
    # The mask comes back as (columns, rows).
    Wrong("mask transposed",
        with_step(handed_back=lambda self, weights, mask: Right.handed_back(self, weights, mask.T)),
        "output", None),
    # The mask comes back as 0.0 and 1.0, ready to be multiplied with.
    Wrong("mask of floats",
        with_step(handed_back=lambda self, weights, mask: Right.handed_back(
            self, weights, mask.astype(self.given_weight.dtype))),
        "output", None),
    # The mask is True where a weight is kept, as many libraries have it.
    Wrong("mask inverted",
        with_step(handed_back=lambda self, weights, mask: Right.handed_back(self, weights, ~mask)),
        "zeros", "mask-inverted"),
    # The program hands back what it got, because pruning is not written yet.
    Wrong("nothing removed",
        with_step(handed_back=lambda self, weights, mask: (self.given_weight, np.zeros_like(mask))),
        "counts", "nothing-removed", patterns=("n:m", "structured")),  # else rows may be padded
    # The weight comes back as float32 whatever came in.
    Wrong("always float32",
        with_step(handed_back=lambda self, weights, mask: (weights.astype(np.float32), mask)),
        "output", None),
    # The weight comes back as float64 whatever came in.
    Wrong("always float64", with_step(handed_back=lambda self, weights, mask: (weights, mask)),
        "output", None, features=("single-precision",)),
    # The mask is not handed back.
    Wrong("no mask",
        with_step(handed_back=lambda self, weights, mask: weights.astype(self.given_weight.dtype)),
        "output", None),
    # Weights are divided by a scale and multiplied with it, even if nothing is to be removed.
    Wrong("rounded although nothing is removed",
        with_step(handed_back=lambda self, weights, mask: Right.handed_back(
            self, weights if mask.any() else weights / 49 * 49, mask)),
        "kept", None, patterns=("unstructured", "n:m", "structured"),
        features=("nothing-removed",)),
    # Any difference of gram and its transpose is refused.
    Wrong("asymmetry below the limit fails",
        failing(lambda self: not np.array_equal(self.given_gram, self.given_gram.T),
                ValueError("gram is not symmetric")),
        "output", None, features=("nearly-symmetric",)),
    # That every column goes is taken for a mistake.
    Wrong("all columns fail",
        failing(lambda self: isinstance(self.pattern, Structured) and self.columns_removed(
            self.given_weight.shape[1]) == self.given_weight.shape[1],
            ValueError("sparsity removes all columns")),
        "output", None, patterns=("structured",), features=("all-columns",)),
    # Decimals are read by a pattern of digits, a point and digits.
    Wrong("decimals with an exponent fail",
        with_step(parsed=lambda self, text: plain_decimals(Right.parsed(self, text), text)),
        "output", None, patterns=("unstructured", "structured"), features=("spelled",)),
    # A block that is wider than the layer is taken for a mistake.
    Wrong("wide block fails",
        failing(lambda self: self.block_size > self.given_weight.shape[1],
                IndexError("block_size is wider than the layer")),
        "output", None, features=("wide-block",)),
    # A block size of 256 or more breaks off, as the published code does on several CPU threads.
    Wrong("block of 256 fails",
        failing(lambda self: self.block_size >= 256, RuntimeError("batched LU failed")),
        "output", None, patterns=IN_BLOCKS, features=("block-of-256",)),
    # A dead column is taken for a mistake, because something divides by its norm.
    Wrong("dead column fails",
        failing(lambda self: bool((np.diag(self.given_gram) == 0).any()),
                ZeroDivisionError("gram has a column of zeros")),
        "output", None, features=("dead-columns",)),
]  # fmt: skip
