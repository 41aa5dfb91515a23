"""The loss of every block, from the result alone. Spec section 4."""

import numpy as np
from scipy.linalg import cholesky

from reference.arrays import Array
from reference.patterns import column_blocks


def reversed_cholesky(H: Array) -> Array:
    """The lower triangular M with H = Mᵀ M: Cholesky with rows and columns reversed."""
    L = cholesky(H[::-1, ::-1], lower=True)  # L Lᵀ = reversed H
    M: Array = L[::-1, ::-1].T
    return M


def block_losses(W: Array, pruned: Array, H: Array, block_size: int) -> Array:
    """‖E_k‖² for E = (Ŵ − W) Mᵀ, E_k its columns of block k: T3 and T4. (blocks,)"""
    E = (pruned - W) @ reversed_cholesky(H).T
    blocks = column_blocks(W.shape[1], block_size)
    return np.array([np.sum(E[:, j1:j2] ** 2) for j1, j2 in blocks])
