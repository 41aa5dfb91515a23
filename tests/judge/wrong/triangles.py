"""Bugs in which G is not made symmetric."""

from typing import Any

import numpy as np

from tests.judge.wrong.arrays import Array
from tests.judge.wrong.bug import Wrong, with_step
from tests.judge.wrong.right import Right


def with_gram(change: Any) -> type[Right]:
    """The right implementation with another G, read as it was given."""

    def prepare(self: Right) -> None:
        given = self.given_gram
        self.given_gram = change(np.asarray(given, np.float64))
        Right.prepare(self)
        self.given_gram = given

    return with_step(prepare=prepare)


class AsGiven(Right):
    """G is used without its symmetric part being taken, with a general inverse."""

    def prepare(self) -> None:
        super().prepare()
        self.G = self.read(self.given_gram)
        self.H = self.hessian()

    def inverse_rows(self, j1: int, j2: int) -> Array:
        return np.asarray(np.linalg.inv(self.H[j1:, j1:])[: j2 - j1])

    def multipliers(self, R_qq: Array, removed: Array) -> Array:
        return super().multipliers(R_qq.T, removed)


KEY, NEARLY = "gram-not-symmetrised", ("nearly-symmetric",)

WRONG = [
    # Libraries read one triangle of a symmetric matrix, and nobody made it symmetric before.
    Wrong("lower triangle of G only", with_gram(lambda G: np.tril(G) + np.tril(G, -1).T),
        "updates", KEY, features=NEARLY),
    Wrong("upper triangle of G only", with_gram(lambda G: np.triu(G) + np.triu(G, 1).T),
        "updates", KEY, features=NEARLY),
    Wrong("G as it is", AsGiven, "updates", KEY, features=NEARLY),
]  # fmt: skip
