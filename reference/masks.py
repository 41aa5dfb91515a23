"""Which weights go. Spec sections 2 and 3."""

import numpy as np

from reference.arrays import Array, Indices, Mask


def smallest(values: Array, count: int) -> Mask:
    """Mask of the `count` smallest values; ties to the lower row-major index. Spec section 2."""
    order = np.argsort(values, axis=None, kind="stable")
    mask = np.zeros(values.size, dtype=bool)
    mask[order[:count]] = True
    return mask.reshape(values.shape)


def smallest_of_each_row(values: Array, count: int) -> Mask:
    """Mask of the `count` smallest values of each row."""
    return np.array([smallest(row, count) for row in values]).reshape(values.shape)


def smallest_of_each_group(values: Array, n: int, m: int) -> Mask:
    """Mask of the `n` smallest values of every aligned group of `m` columns of a row. Spec (4)."""
    groups = values.reshape(-1, m)
    return smallest_of_each_row(groups, n).reshape(values.shape)


def smallest_columns(values: Array, count: int) -> Indices:
    """Indices of the `count` smallest of one value a column."""
    return np.flatnonzero(smallest(values, count))


def column_norms(gram: Array) -> Array:
    """‖X_j‖ = sqrt(G_jj), (b,). Spec section 1."""
    return np.sqrt(np.diag(gram))


def saliency(weight: Array, gram: Array) -> Array:
    """S_ij = |W_ij| · ‖X_j‖, (c, b). Spec (2)."""
    return np.abs(weight) * column_norms(gram)


def ordinary_rows(weight: Array, gram: Array, outliers: int, outlier_score: str) -> Indices:
    """All rows but the `outliers` ones with the largest h_i = (W G Wᵀ)_ii. Spec section 2.

    outlier_score  "wanda": the largest Σ_j W_ij² G_jj instead, an ablation of section 7
    """
    h = np.sum((weight @ gram) * weight, axis=1)
    if outlier_score == "wanda":
        h = np.sum(weight**2 * np.diag(gram), axis=1)
    largest_first = np.argsort(-h, kind="stable")
    return np.sort(largest_first[outliers:])
