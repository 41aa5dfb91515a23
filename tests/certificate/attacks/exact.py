"""The exact run for given masks and its loss, as plain as the definition. Spec (6) and T13.

Nothing of the certificate is used. Everything is in longdouble, whose range no layer leaves; every
system is solved in float64 and refined in longdouble.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.certificate.attacks.layers import Array, Layer, Mask

Long = NDArray[np.longdouble]


def hessian(layer: Layer) -> Long:
    """H = G + λI."""
    G = layer.gram.astype(np.longdouble)
    mean = np.diag(G).mean()
    lam = layer.damping * mean if mean > 0 else np.longdouble(1)
    H: Long = (G + G.T) / 2 + lam * np.eye(len(G))
    return H


def replay(layer: Layer, mask: Mask) -> Long:
    """T, (c, b): block by block and row by row, the free columns minimise (1). Spec section 4."""
    W, H = layer.weight.astype(np.longdouble), hessian(layer)
    if not layer.moves:
        return np.where(mask, 0, W)
    T = W.copy()
    for row, gone in zip(range(len(W)), mask, strict=True):
        for j1, j2 in layer.blocks:
            if gone[j1:j2].any():
                T[row] = best_row(W[row], T[row], H, gone, j1, j2)
    return T


def best_row(W: Long, state: Long, H: Long, gone: Mask, j1: int, j2: int) -> Long:
    """The least (1) with the columns before j1 as they are and the mask of [j1, j2) at 0."""
    free = np.arange(len(W)) >= j1
    free[j1:j2] &= ~gone[j1:j2]
    moved = np.where(np.arange(len(W)) < j1, state, 0) - W
    moved[free] = 0
    moved[free] = solve(H[np.ix_(free, free)], -(moved @ H)[free])
    found: Long = np.where(free, W + moved, np.where(np.arange(len(W)) < j1, state, 0))
    return found


def solve(A: Long, right: Long) -> Long:
    """The x with A x = right; scaled, so that float64 holds it, and refined three times."""
    x, scale = np.zeros_like(right), np.sqrt(np.diag(A))
    scaled = (A / np.outer(scale, scale)).astype(np.float64)
    for _ in range(3):
        residual = (right - A @ x) / scale
        size = np.abs(residual).max(initial=0)
        if size == 0:
            break
        x = x + np.linalg.solve(scaled, (residual / size).astype(np.float64)) * size / scale
    return x


def losses(layer: Layer, weight: NDArray[Any]) -> Long:
    """f_i, (c,); infinite for a row that is not finite."""
    D = weight.astype(np.longdouble) - layer.weight
    bad = ~np.isfinite(D).all(axis=1)
    D[bad] = 0
    f: Long = np.sum((D @ hessian(layer)) * D, axis=1)
    f[bad] = np.inf
    return f


def energies(layer: Layer, T: Long) -> Long:
    """N_i = Σ_j T_ij² H_jj, (c,): T is 0 where the mask is."""
    N: Long = T**2 @ np.diag(hessian(layer))
    return N


def unrounded(layer: Layer, weight: Array, T: Long) -> Long:
    """P: what rounds to Ŵ, nearest to T. Only subnormal numbers, if storage rounds no others."""
    low, high = _halfway(weight, layer.kind)
    P: Long = np.clip(T, low, high)
    if layer.storage is not None:
        return P
    return np.where(np.abs(weight) < np.finfo(layer.kind).smallest_normal, P, weight)


def _halfway(weight: Array, kind: str) -> tuple[Long, Long]:
    """Between which two numbers everything rounds to `weight`."""
    with np.errstate(over="ignore"):
        if kind == "bfloat16":
            below, above = (_next_bfloat16(weight, sign) for sign in (-1, 1))
        else:
            typed = weight.astype(kind)
            below, above = (np.nextafter(typed, typed.dtype.type(to)) for to in (-np.inf, np.inf))
    w = weight.astype(np.longdouble)
    return (w + np.where(np.isinf(below), 2 * w, below)) / 2, (
        w + np.where(np.isinf(above), 2 * w, above)
    ) / 2


def _next_bfloat16(weight: Array, sign: int) -> Array:
    """The next number of the type in one direction."""
    typed = weight.astype(np.float32)
    away = (typed == 0) | (sign * typed > 0)
    bits = (np.abs(typed).view(np.uint32) >> 16).astype(np.int64) + np.where(away, 1, -1)
    sizes = (bits.astype(np.uint32) << 16).view(np.float32)
    return np.where(typed == 0, sign, np.sign(typed)) * sizes.astype(np.float64)
