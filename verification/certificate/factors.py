"""The factors of H, and how far H is from singular: LAPACK for NumPy, the library on a device."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from verification.certificate.device_array import DeviceArray

Array = NDArray[np.float64]
NOT_DEFINITE = "gram plus damping is not positive definite in float64"
STEPS = 5  # of the estimate of a norm, at most, as in LAPACK


def factorised(H: Array) -> tuple[Array, float]:
    """The lower triangular M with H = Mᵀ M, (b, b), and κ₁(H), estimated from below.

    LAPACK's estimate starts from equal numbers and cannot see the directions that are blind to two
    equal columns. The column of H⁻¹ at the smallest pivot does. Raises ValueError if H is not
    positive definite in float64.
    """
    if isinstance(H, DeviceArray):
        return _on_device(H)
    reversed_H = H[::-1, ::-1]
    norm = float(np.abs(reversed_H).sum(axis=0).max())
    # H is symmetric: its transpose is what LAPACK, which reads by columns, takes in place.
    # The other triangle keeps what it holds (clean=0): the calls below do not read it.
    L, info = lapack.dpotrf(reversed_H.T, lower=1, clean=0)
    if info:
        raise ValueError(NOT_DEFINITE)
    reciprocal, _ = lapack.dpocon(L, norm, uplo="L")
    worst = np.zeros(len(L))
    worst[np.argmin(np.diag(L))] = 1.0
    column, _ = lapack.dpotrs(L, worst, lower=1)
    condition = max(
        1 / max(float(reciprocal), np.finfo(float).tiny), norm * float(np.abs(column).sum())
    )
    M: Array = np.tril(L.T[::-1, ::-1])
    return M, condition


def inverse_transposed(M: Array) -> Array:
    """U = M⁻ᵀ of a lower triangular M, (b, b). Raises ValueError if M is singular."""
    if isinstance(M, DeviceArray):
        found: Any = DeviceArray(
            M.library.solved(M.native, np.eye(len(M), like=M).native), M.library
        )
        if not np.isfinite(np.diag(found)).all():
            raise ValueError("gram plus damping is singular")
        return found.T
    # Mᵀ is what LAPACK, which reads by columns, takes without a copy.
    U, info = lapack.dtrtri(M.T, lower=0)
    if info:
        raise ValueError(f"gram plus damping is singular at column {info}")
    inverse: Array = U
    return inverse


def is_definite(H: Array) -> bool:
    """Whether H, which may be overwritten, has a Cholesky factorisation in float64."""
    if isinstance(H, DeviceArray):
        return not H.library.cholesky(H.native)[1]
    _, info = lapack.dpotrf(H.T, lower=1, clean=0, overwrite_a=1)
    return not info


def _on_device(H: DeviceArray) -> tuple[Any, float]:
    library = H.library
    reversed_H: Any = np.flip(H)
    norm = float(np.abs(reversed_H).sum(axis=0).max())
    native, failed = library.cholesky(reversed_H.native)
    if failed:
        raise ValueError(NOT_DEFINITE)
    L: Any = DeviceArray(native, library)

    def solved(right: Any) -> Any:
        half = library.solved(native, right[:, None].native)
        return DeviceArray(library.solved(native, half, transposed=True), library)[:, 0]

    worst = np.zeros(len(L), like=L)
    worst[np.argmin(np.diag(L))] = 1.0
    size = max(_norm_of_inverse(solved, worst), float(np.abs(solved(worst)).sum()))
    M = np.tril(np.flip(L.T))
    return M, norm * size


def _norm_of_inverse(solved: Any, like: Any) -> float:
    """‖H⁻¹‖₁ from below, by Higham's estimator, as LAPACK's dpocon; `solved` gives H⁻¹ x."""
    n = len(like)
    y = solved(np.full(n, 1 / n, like=like))
    size, signs, column = float(np.abs(y).sum()), np.where(y >= 0, 1.0, -1.0), -1
    for _ in range(STEPS):
        z = np.abs(solved(signs))
        best = int(np.argmax(z))
        if column >= 0 and z[best] == z[column]:
            break
        column, unit = best, np.zeros(n, like=like)
        unit[column] = 1.0
        y = solved(unit)
        before, size, old = size, float(np.abs(y).sum()), signs
        signs = np.where(y >= 0, 1.0, -1.0)
        if size <= before or bool((signs == old).all()):
            size = max(size, before)
            break
    k = np.arange(n, like=like)
    ends = (1 + k / max(1, n - 1)) * np.where(k - k // 2 * 2 == 0, 1.0, -1.0)
    return max(size, 2 * float(np.abs(solved(ends)).sum()) / (3 * n))
