"""Bugs in which numbers have fewer bits than they should, in products or between blocks."""

import numpy as np

from tests.judge.wrong.arrays import Array, Indices, Mask
from tests.judge.wrong.bug import IN_BLOCKS, Wrong, with_step
from tests.judge.wrong.right import Right
from verification.conformance.storage import stored


def cut(values: Array, digits: int) -> Array:
    """Numbers with this many binary digits, rounded to nearest."""
    shares, exponents = np.frexp(np.asarray(values, np.float64))
    return np.asarray(np.ldexp(np.rint(np.ldexp(shares, digits)), exponents - digits))


def products(digits: int) -> type[Right]:
    """(6) as (V μ) U_kJ, like a batched program, with products of few digits."""

    class Reduced(Right):
        def update(self, weights: Array, mask: Mask, j1: int, j2: int) -> Array:
            updated = weights.copy()
            U_kk, U_kJ = self.U[j1:j2, j1:j2], cut(self.U[j1:j2, j1:], digits)
            for i, row in enumerate(mask[:, j1:j2]):
                q = np.flatnonzero(row)
                if len(q):
                    V = U_kk[:, q]
                    mu = np.linalg.solve(V.T @ V, weights[i, j1 + q])
                    updated[i, j1:] -= cut(V @ mu, digits) @ U_kJ
                    updated[i, j1 + q] = 0.0
            return updated

    return Reduced


def products_of_inverse(digits: int) -> type[Right]:
    """(6) as μ R, with products of few digits."""

    def made_up(self: Right, row: Array, q: Indices, R: Array) -> Array:
        mu = self.multipliers(R[np.ix_(q, q)], row[q])
        moved: Array = row - cut(mu, digits) @ cut(R[q], digits)
        moved[q] = 0.0
        return moved

    return with_step(made_up=made_up)


def stored_between_blocks(storage: str) -> type[Right]:
    """The weights lie in their storage type between blocks."""

    def update(self: Right, weights: Array, mask: Mask, j1: int, j2: int) -> Array:
        updated = Right.update(self, weights, mask, j1, j2)
        return np.asarray(stored(updated.astype(np.float32), storage), np.float64)

    return with_step(update=update)


SINGLE = ("single-precision",)
FEW = ("n:m", "structured")  # bfloat16 products turn some masks of unstructured pruning

WRONG = [
    Wrong("products in TF32", products(11), "updates", "reduced-products", features=SINGLE),
    Wrong("products of the inverse in TF32", products_of_inverse(11), "updates",
        "reduced-products", features=SINGLE),
    Wrong("products in bfloat16", products(8), "updates", "reduced-products", patterns=FEW,
        features=SINGLE),
    Wrong("products of the inverse in bfloat16", products_of_inverse(8), "updates",
        "reduced-products", patterns=FEW, features=SINGLE),
    Wrong("weights in bfloat16 between blocks", stored_between_blocks("bfloat16"), "replay",
        "weights-stored-between-blocks", patterns=IN_BLOCKS,
        features=("stored-bfloat16", "many-blocks")),
    Wrong("weights in float16 between blocks", stored_between_blocks("float16"), "replay",
        "weights-stored-between-blocks", patterns=IN_BLOCKS,
        features=("stored-float16", "many-blocks")),
]  # fmt: skip
