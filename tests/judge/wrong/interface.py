"""Bugs in what is taken and handed back, while the mathematics is right."""

from typing import Any

import numpy as np

from reference.patterns import Structured
from tests.judge.wrong.arrays import Array, Floats, Mask
from tests.judge.wrong.bug import IN_BLOCKS, bug, with_step
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


class StridesIgnored(Right):
    """The numbers are read in the order of memory, as through a pointer: C order is assumed."""

    def read(self, matrix: Floats) -> Array:
        return super().read(matrix.ravel(order="K").reshape(matrix.shape))


class MaskOfFloats(Right):
    """The mask comes back as 0.0 and 1.0, ready to be multiplied with."""

    def handed_back(self, weights: Array, mask: Mask) -> tuple[Any, Any]:
        weights, mask = super().handed_back(weights, mask)
        return weights, mask.astype(weights.dtype)


class WideBlockFails(Right):
    """A block that is wider than the layer is taken for a mistake."""

    def refuse_block_size(self) -> None:
        super().refuse_block_size()
        if self.block_size > self.given_weight.shape[1]:
            raise IndexError(f"block_size is {self.block_size}, wider than the layer")


class LargeBlockFails(Right):
    """A block size of 256 or more breaks off, as the published code does on several CPU threads."""

    def refuse_block_size(self) -> None:
        super().refuse_block_size()
        if self.block_size >= 256 and not isinstance(self.pattern, Structured):
            raise RuntimeError("batched LU failed")


class DeadColumnFails(Right):
    """A dead column is taken for a mistake, because something divides by its norm."""

    def refuse_diagonal(self) -> None:
        super().refuse_diagonal()
        if (np.diag(self.given_gram) == 0).any():
            raise ZeroDivisionError("gram has a column of zeros")


WRONG = [
    bug("weight overwritten", WeightOverwritten, "input", None),
    bug("gram overwritten", GramOverwritten, "input", None),
    bug("strides ignored", StridesIgnored, "updates", None, features=("fortran-order",)),
    # The weight comes back as (columns, rows).
    bug("weight transposed",
        with_step(handed_back=lambda self, weights, mask: Right.handed_back(self, weights.T, mask)),
        "output", None),
    # The mask comes back as (columns, rows).
    bug("mask transposed",
        with_step(handed_back=lambda self, weights, mask: Right.handed_back(self, weights, mask.T)),
        "output", None),
    bug("mask of floats", MaskOfFloats, "output", None),
    # The mask is True where a weight is kept, as many libraries have it.
    bug("mask inverted",
        with_step(handed_back=lambda self, weights, mask: Right.handed_back(self, weights, ~mask)),
        "zeros", None),
    # The weight comes back as float32 whatever came in.
    bug("always float32",
        with_step(handed_back=lambda self, weights, mask: (weights.astype(np.float32), mask)),
        "output", None),
    # The weight comes back as float64 whatever came in.
    bug("always float64", with_step(handed_back=lambda self, weights, mask: (weights, mask)),
        "output", None, features=("single-precision",)),
    # The mask is not handed back.
    bug("no mask",
        with_step(handed_back=lambda self, weights, mask: weights.astype(self.given_weight.dtype)),
        "output", None),
    bug("wide block fails", WideBlockFails, "output", None, features=("wide-block",)),
    bug("block of 256 fails", LargeBlockFails, "output", None, patterns=IN_BLOCKS,
        features=("block-of-256",)),
    bug("dead column fails", DeadColumnFails, "output", None, features=("dead-columns",)),
]  # fmt: skip
