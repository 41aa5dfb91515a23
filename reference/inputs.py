"""The refusals of damping, weight and gram. Spec section 2, rows 8 to 16 of the table.

Every refusal is a ValueError that names the argument and its value.
"""

import numpy as np
from numpy.typing import ArrayLike

from reference.arrays import Array, Mask


def checked_weight(weight: ArrayLike, name: str = "weight") -> Array:
    """A float64 copy of a weight, (c, b)."""
    return _finite_matrix(name, weight)


def checked_gram(gram: ArrayLike, columns: int) -> Array:
    """A float64, exactly symmetric copy of a Gram matrix, (b, b)."""
    G = _finite_matrix("gram", gram)
    if G.shape != (columns, columns):
        raise ValueError(
            f"gram must be {columns} x {columns} like the columns of the weight, "
            f"got {G.shape[0]} x {G.shape[1]}"
        )
    diagonal = np.diag(G)
    if (diagonal < 0).any():
        j = np.argmin(diagonal)
        raise ValueError(f"gram[{j}, {j}] must not be negative, got {diagonal[j]}")
    dead = diagonal == 0
    if G[dead].any():
        j = np.flatnonzero(dead & G.any(axis=1))[0]
        raise ValueError(f"gram[{j}, {j}] is 0 but row {j} is not: no Gram matrix is like that")
    norms = np.sqrt(diagonal)
    asymmetry = np.abs(G - G.T) - 1e-5 * np.outer(norms, norms)
    if (asymmetry > 0).any():
        i, j = np.unravel_index(np.argmax(asymmetry), G.shape)
        raise ValueError(
            f"gram must be symmetric, got gram[{i}, {j}] = {G[i, j]} and gram[{j}, {i}] = {G[j, i]}"
        )
    return G / 2 + G.T / 2


def check_damping(damping: float) -> None:
    """γ must be a positive number."""
    if not 0 < damping < np.inf:
        raise ValueError(f"damping must be positive and finite, got {damping}")


def check_same_shape(name: str, array: Array | Mask, shape: tuple[int, ...]) -> None:
    """Two matrices that belong together have one shape."""
    if array.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}, got {array.shape}")


def _finite_matrix(name: str, values: ArrayLike) -> Array:
    given = np.asarray(values)
    if given.ndim != 2 or given.size == 0:
        raise ValueError(f"{name} must be a matrix with entries, got the shape {given.shape}")
    if not np.issubdtype(given.dtype, np.floating):
        raise ValueError(f"{name} must hold floating-point numbers, got {given.dtype}")
    matrix = given.astype(np.float64)  # a copy: what the caller gave is never changed
    if not np.isfinite(matrix).all():
        i, j = np.argwhere(~np.isfinite(matrix))[0]
        raise ValueError(f"{name} must be finite, got {name}[{i}, {j}] = {matrix[i, j]}")
    return matrix
