"""How the kept weights make up for the removed ones. Spec section 4."""

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from reference.arrays import Array, Mask


def inverse(matrix: Array) -> Array:
    """The inverse of a positive definite matrix."""
    inverted: Array = cho_solve(cho_factor(matrix, lower=True), np.eye(len(matrix)))
    return inverted


def joint_update(W_J: Array, mask: Mask, H_JJ: Array) -> Array:
    """Joint update of one block, spec (6): every row loses all its picks in the block at once.

    W_J   (c, |J|), the columns that are free to move, the block's columns first
    mask  (c, block width), True where a weight goes
    H_JJ  (|J|, |J|), the same columns of H
    Returns the new W_J; the old one is left as it is.
    """
    R = inverse(H_JJ)
    updated = W_J.copy()
    for i in range(len(W_J)):
        q = np.flatnonzero(mask[i])
        if q.size == 0:
            continue  # nothing is lost: the row stays as it is, bit for bit
        mu = np.linalg.solve(R[np.ix_(q, q)], W_J[i, q])
        updated[i] -= mu @ R[q]
        updated[i, q] = 0.0
    return updated


def sequential_update(W_J: Array, mask: Mask, H_JJ: Array) -> Array:
    """The same, but one column after another, the earlier ones frozen: SparseGPT's update, T5.

    A column alone is a block of width 1, so this is (6) once for every column of the block.
    """
    updated = W_J.copy()
    for j in range(mask.shape[1]):
        updated[:, j:] = joint_update(updated[:, j:], mask[:, j : j + 1], H_JJ[j:, j:])
    return updated
