"""The formulas of docs/specification.md section 5, written again for the tests."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def hessian(gram: Array, damping: float) -> tuple[Array, float]:
    """H = G + λI and λ."""
    mean = float(np.trace(gram)) / len(gram)
    lam = damping * mean if mean > 0 else 1.0
    return gram + lam * np.eye(len(gram)), lam


def blocks(columns: int, width: int) -> list[tuple[int, int]]:
    return [(j1, min(j1 + width, columns)) for j1 in range(0, columns, width)]


@dataclass(frozen=True)
class Judged:
    """A pruned layer with the matrices of section 5."""

    weight: Array
    gram: Array
    damping: float
    pruned: Array

    @cached_property
    def H(self) -> Array:
        return hessian(self.gram, self.damping)[0]

    @property
    def lam(self) -> float:
        return hessian(self.gram, self.damping)[1]

    @cached_property
    def M(self) -> Array:
        """Lower triangular, H = Mᵀ M."""
        return np.asarray(np.linalg.cholesky(self.H[::-1, ::-1])[::-1, ::-1].T)

    @cached_property
    def E(self) -> Array:
        """D Mᵀ."""
        return np.asarray((self.pruned - self.weight) @ self.M.T)

    def gradient(self, j1: int, j2: int) -> Array:
        """G_k = E_k M_kk, half the gradient at the end of the block [j1, j2), T2."""
        return np.asarray(self.E[:, j1:j2] @ self.M[j1:j2, j1:j2])

    def sizes(self, j1: int, j2: int) -> Array:
        """The size of the terms of `gradient`: (|W_P| + |Ŵ_P|) |M_k,P|ᵀ |M_kk|."""
        both = np.abs(self.weight[:, :j2]) + np.abs(self.pruned[:, :j2])
        rows = np.abs(self.M[j1:j2])
        return np.asarray(both @ rows[:, :j2].T @ rows[:, j1:j2])

    @property
    def loss(self) -> float:
        """f(Ŵ) = tr(D H Dᵀ)."""
        D = self.pruned - self.weight
        return float(np.sum((D @ self.H) * D))


def best_from(weight: Array, mask: Mask, inputs: Array, damping: float, start: Array) -> Array:
    """Solve the least-squares problem of every row, with X augmented by sqrt(λ) I, directly.

    weight  (c, b), W; inputs  (b, a), X
    mask    (c, b), entries that must be 0
    start   (c, j1), columns that are final already
    Returns (c, b): `start`, and the best weights behind it.
    """
    lam = hessian(inputs @ inputs.T, damping)[1]
    augmented = np.hstack([inputs, np.sqrt(lam) * np.eye(len(inputs))])  # (b, a + b)
    best = np.zeros_like(weight)
    j1 = start.shape[1]
    best[:, :j1] = start
    for i, row in enumerate(weight):
        free = np.flatnonzero(~mask[i, j1:]) + j1
        target = row @ augmented - best[i] @ augmented
        best[i, free] = np.linalg.lstsq(augmented[free].T, target, rcond=None)[0]
    return best
