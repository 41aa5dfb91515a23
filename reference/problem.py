"""The problem. Spec section 1."""

import numpy as np
from numpy.typing import ArrayLike

from reference.arrays import Array
from reference.inputs import check_damping, check_same_shape, checked_gram, checked_weight
from reference.patterns import Pattern


class Gram:
    """G = X Xᵀ, added up batch by batch.

    columns: b, the number of inputs of the layer.
    """

    def __init__(self, columns: int) -> None:
        if columns < 1:
            raise ValueError(f"columns must be at least 1, got {columns}")
        self._matrix = np.zeros((columns, columns))
        self.tokens = 0

    def add(self, batch: ArrayLike) -> None:
        """Add a batch of inputs, (..., columns): one token a row, so X is its transpose."""
        rows = np.asarray(batch, dtype=np.float64)
        columns = len(self._matrix)
        if rows.ndim == 0 or rows.shape[-1] != columns:
            raise ValueError(f"batch must have {columns} columns, got the shape {rows.shape}")
        rows = rows.reshape(-1, columns)
        if not np.isfinite(rows).all():
            raise ValueError(f"batch must be finite, got {rows[~np.isfinite(rows)][0]}")
        self._matrix += rows.T @ rows
        self.tokens += len(rows)

    def matrix(self) -> Array:
        """G, (columns, columns)."""
        return self._matrix.copy()


def damped(gram: Array, damping: float) -> Array:
    """H = G + λI with λ = γ · mean(diag G), or 1 if G is zero. Spec section 1."""
    mean = np.diag(gram).mean()
    lam = damping * mean if mean > 0 else 1.0
    return gram + lam * np.eye(len(gram))


def objective(
    weight: ArrayLike, gram: ArrayLike, pruned_weight: ArrayLike, *, damping: float = 0.01
) -> float:
    """What pruning costs: f(Ŵ) = tr(D H Dᵀ), D = Ŵ − W. Spec (1).

    weight, pruned_weight: (c, b); gram: (b, b). Raises ValueError for what spec section 2 refuses.
    """
    check_damping(damping)
    W = checked_weight(weight)
    G = checked_gram(gram, W.shape[1])
    pruned = checked_weight(pruned_weight, "pruned_weight")
    check_same_shape("pruned_weight", pruned, W.shape)
    D = pruned - W
    return float(np.sum((D @ damped(G, damping)) * D))


def checked_problem(
    weight: ArrayLike, gram: ArrayLike, pattern: Pattern, block_size: int, damping: float
) -> tuple[Array, Array, Array]:
    """Copies of W and G and the damped H, or a refusal: the common start of all methods."""
    check_damping(damping)
    W = checked_weight(weight)
    G = checked_gram(gram, W.shape[1])
    pattern.check(W.shape[0], W.shape[1], block_size)
    H = damped(G, damping)
    try:
        np.linalg.cholesky(H)
    except np.linalg.LinAlgError:
        raise ValueError(
            f"gram is too far from positive definite: damping = {damping} does not mend it"
        ) from None
    return W, G, H
