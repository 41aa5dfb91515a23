"""Decides from the exact answer what right code in floating point must return. docs/vectors.md."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verification.exact import ExactPruned
from verification.thresholds import UNIT_ROUNDOFF

# A choice is certain if scores differ by this many times their rounding error, which is u for
# scores of the given weights and u κ once the weights have moved.
CLEAR_ORIGINAL = 128
CLEAR_MOVED = 16
# Above this u κ, weights of right code have fewer than two correct digits and are not compared.
NO_DIGITS = 0.01


def is_certain(exact: ExactPruned, method: str, dtype: str, condition: float) -> bool:
    """Whether right code in arithmetic `dtype` must make the same choices as the exact answer.

    If so, its weights are compared too; if not, only a certificate can judge it.
    """
    u = UNIT_ROUNDOFF[dtype]
    if exact.closeness.original < CLEAR_ORIGINAL * Fraction(u):
        return False
    if method not in ("thanos", "sparsegpt"):  # the others move nothing
        return True
    return u * condition <= NO_DIGITS and exact.closeness.moved >= CLEAR_MOVED * Fraction(
        u * condition
    )


def rounded_once(exact: ExactPruned) -> NDArray[np.float64]:
    """Ŵ, (c, b): Fraction to float rounds to nearest."""
    return np.array([[float(value) for value in row] for row in exact.weight])


def condition_of(gram: NDArray[Any], damping: float) -> float:
    """The condition number of H, rounded up to a power of two: the same on every machine."""
    G = gram.astype(np.float64)
    G = (G + G.T) / 2
    mean = float(np.mean(np.diag(G) / (np.max(G) or 1.0)))
    G = G / (np.max(G) or 1.0)
    H = G + (damping * mean if mean else 1.0) * np.eye(len(G))
    smallest = damping * mean if mean else 1.0  # G is semidefinite
    eigenvalues = np.linalg.eigvalsh(H)
    ratio = eigenvalues[-1] / max(eigenvalues[0], smallest)
    return float(2.0 ** math.ceil(math.log2(ratio) - 1e-9))
