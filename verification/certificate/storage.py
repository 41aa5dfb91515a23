"""Ŵ before it was rounded to a narrower type: the numbers nearest to T that round to it. T13."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.patterns import column_blocks
from verification.certificate.device_array import pieces
from verification.thresholds import LARGEST, SMALLEST, UNIT_ROUNDOFF

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
ROWS = 64  # whose intervals are made at one time


def before_rounding(
    pruned: Array, exact: Array, storage: str, row_exponents: NDArray[np.int64], narrower: bool
) -> Array:
    """P of T13, (c, b): `exact` clipped, entry by entry, to what rounds to `pruned`.

    exact          T, (c, b)
    row_exponents  log2 of the units of the rows, (c,)
    narrower       whether `storage` is narrower than the arithmetic; else only subnormal numbers
                   are clipped, which hold fewer digits than the unit roundoff says
    """
    P = pruned.copy()
    for i1, i2 in column_blocks(len(P), pieces(P, ROWS)):
        values, T = P[i1:i2], exact[i1:i2]
        last = _last(storage) - row_exponents[i1:i2, None]
        chosen = np.ones(values.shape, dtype=bool, like=P)
        if not narrower:
            normal = np.exp2(np.maximum(last + _digits(storage) - 1, -1074).astype(float))
            chosen = (np.abs(values) < normal) & (values != T)
            if not chosen.any():
                continue
        inner, outer = rounding_interval(np.abs(values), storage, last)
        sign = np.where(np.signbit(values), -1.0, 1.0)
        P[i1:i2] = np.where(chosen, sign * np.clip(sign * T, inner, outer), values)
    return P


def rounding_interval(
    sizes: Array, storage: str, last: NDArray[np.int64] | int
) -> tuple[Array, Array]:
    """Between which two numbers everything rounds to each number of a storage type.

    sizes  of these numbers, not negative
    last   log2 of the smallest subnormal number of the type; broadcasts
    """
    step = _step(sizes, storage, last)  # to the next larger number
    mantissa, _ = np.frexp(sizes)
    finer = (mantissa == 0.5) & (step > np.ldexp(1.0, last))  # half as much below a power of two
    return sizes - np.where(finer, step / 4, step / 2), sizes + step / 2


def rounds_to(values: Array, stored: Array, storage: str) -> Mask:
    """Where rounding to a storage type, to nearest, may make `stored` of `values`, both as given.

    For numbers of that type: where both are the same, the sign of zero included.
    """
    found: Mask = np.signbit(values) == np.signbit(stored)
    for i1, i2 in column_blocks(len(stored), pieces(stored, ROWS)):
        sizes = np.abs(values[i1:i2])
        inner, outer = rounding_interval(np.abs(stored[i1:i2]), storage, _last(storage))
        found[i1:i2] &= (inner <= sizes) & (sizes <= outer)
    return found


def rounding_errors(
    weights: Array, storage: str, row_exponents: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The most that rounding to a storage type may move each weight, (c, b), in units of its row.

    For subnormal numbers that is half of the smallest one, however small the weight is.
    """
    least = np.exp2((_last(storage) - 1 - row_exponents).astype(float))[:, None]
    errors: Array = np.maximum(UNIT_ROUNDOFF[storage] * np.abs(weights), least)
    return errors


def not_of_type(values: Array, storage: str) -> int:
    """How many values, as given, are no numbers of a storage type."""
    sizes = np.abs(values)
    steps = sizes / _step(sizes, storage, _last(storage))
    return int(((steps != np.rint(steps)) | (sizes > LARGEST[storage])).sum())


def _step(sizes: Array, storage: str, last: Any) -> Array:
    exponents = np.where(sizes > 0, np.frexp(sizes)[1] - _digits(storage), last)
    step: Array = np.ldexp(1.0, np.maximum(exponents, last))
    return step


def _digits(storage: str) -> int:
    return -round(math.log2(UNIT_ROUNDOFF[storage]))


def _last(storage: str) -> int:
    return round(math.log2(SMALLEST[storage]))
