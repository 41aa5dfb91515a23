"""Bugs in what is taken and handed back, while the mathematics is right."""

from typing import Any

import numpy as np

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
