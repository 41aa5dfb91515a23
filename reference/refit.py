"""Refit: better kept weights for a mask that is final. Spec section 7."""

import numpy as np
from numpy.typing import ArrayLike

from reference.arrays import Array, Pruned
from reference.inputs import check_same_shape, checked_weight
from reference.losses import block_losses
from reference.patterns import Unstructured
from reference.problem import checked_problem


def refit(
    weight: ArrayLike, gram: ArrayLike, pruned: Pruned, *, steps: int, damping: float = 0.01
) -> Pruned:
    """Minimise (1) over the kept weights of every row, all columns free. Spec section 7.

    `steps` steps of conjugate gradients from Ŵ, Jacobi-preconditioned, every row on its own.
    The mask stays. `block_losses` has one entry, f(Ŵ): a refit knows no blocks.
    Arguments as for `thanos`; raises ValueError for a negative `steps` as well.
    """
    if steps < 0:
        raise ValueError(f"steps must not be negative, got {steps}")
    b = np.shape(weight)[-1] if np.ndim(weight) else 0
    W, _, H = checked_problem(weight, gram, Unstructured(0), max(b, 1), damping)
    start = checked_weight(pruned.weight, "pruned.weight")
    check_same_shape("pruned.weight", start, W.shape)
    check_same_shape("pruned.mask", pruned.mask, W.shape)

    kept = ~pruned.mask
    refitted = start.copy()
    residual = np.where(kept, (W - start) @ H, 0.0)  # minus half the gradient of (1)
    direction = residual / np.diag(H)
    steepness = _row_products(residual, direction)
    for _ in range(steps):
        product = np.where(kept, direction @ H, 0.0)
        step = _ratio(steepness, _row_products(direction, product))
        refitted += step * direction
        residual -= step * product
        scaled = residual / np.diag(H)
        previous, steepness = steepness, _row_products(residual, scaled)
        direction = scaled + _ratio(steepness, previous) * direction
    return Pruned(refitted, pruned.mask.copy(), block_losses(W, refitted, H, W.shape[1]))


def _row_products(left: Array, right: Array) -> Array:
    products: Array = np.sum(left * right, axis=1, keepdims=True)  # (c, 1)
    return products


def _ratio(numerator: Array, denominator: Array) -> Array:
    """Per row, with 0/0 = 0: such a row is at its optimum."""
    safe = np.where(denominator == 0, 1.0, denominator)
    ratio: Array = np.where(denominator == 0, 0.0, numerator / safe)
    return ratio
