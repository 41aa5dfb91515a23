"""The layer under judgement, in float64 and in units near 1, with what all checks need.

Nothing here is taken from the implementations: the certificate has its own scaling, damping and
factorisation. Spec section 5.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import lapack

from reference.patterns import column_blocks
from verification.thresholds import ROUNDINGS, SMALLEST, UNIT_ROUNDOFF

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Sizes = NDArray[np.float32]
Indices = NDArray[np.intp]
Real = TypeVar("Real", np.float32, np.float64)


@dataclass(frozen=True)
class Case:
    """W, G and Ŵ in units in which max|W| and mean(diag G) lie in [1, 2).

    u          unit roundoff of the implementation's arithmetic
    u_storage  that of a narrower type in which Ŵ is stored, else 0
    half_step  half the smallest subnormal number of that type, in units of W, else 0
    weight_exponent, loss_exponent   the units of weights and losses, as powers of two
    """

    W: Array
    G: Array
    pruned: Array
    lam: float
    u: float
    u_storage: float
    half_step: float
    weight_exponent: int
    loss_exponent: int

    @property
    def M(self) -> Array:
        """Lower triangular with H = Mᵀ M."""
        return self._factor[0]

    @property
    def condition(self) -> float:
        """κ₁(H), estimated from below; seldom by more than a factor of 3.

        LAPACK's estimate starts from equal numbers, and never leaves the directions that are
        blind to two equal columns: of them, the column of H⁻¹ at the smallest pivot knows.
        """
        return self._factor[1]

    @cached_property
    def _factor(self) -> tuple[Array, float]:
        reversed_H = self.G[::-1, ::-1].copy()
        reversed_H.flat[:: len(reversed_H) + 1] += self.lam
        # H is symmetric: its transpose is what LAPACK, which reads by columns, takes in place.
        norm = float(np.abs(reversed_H).sum(axis=0).max())
        L, info = lapack.dpotrf(reversed_H.T, lower=1, overwrite_a=1)
        if info:
            raise ValueError("gram plus damping is not positive definite in float64")
        reciprocal, _ = lapack.dpocon(L, norm, uplo="L")
        worst = np.zeros(len(L))
        worst[np.argmin(np.diag(L))] = 1.0
        column, _ = lapack.dpotrs(L, worst, lower=1)
        condition = max(
            1 / max(float(reciprocal), np.finfo(float).tiny), norm * float(np.abs(column).sum())
        )
        M: Array = L.T[::-1, ::-1].copy()
        return M, condition

    @cached_property
    def factor_rounding(self) -> Array:
        """How far the factorisation of H, in float64, may move weights of each row, (c, 1).

        D = E U, E is off by some u ‖E‖, and ‖E‖ ‖U‖ is at most ‖D‖ √κ.
        """
        return self.factor_share * self.largest

    @property
    def factor_share(self) -> float:
        """The same as a share of a row's largest weight."""
        return float(ROUNDINGS * UNIT_ROUNDOFF["float64"] * np.sqrt(self.condition))

    @cached_property
    def largest(self) -> Array:
        """The largest size of each row of W and Ŵ, (c, 1)."""
        # A row's ends: the sizes of all entries would need memory of their own, twice.
        ends = [
            end for each in (self.W, self.pruned) for end in (each.max(axis=1), -each.min(axis=1))
        ]
        largest: Array = np.max(ends, axis=0)[:, None]
        return largest

    @cached_property
    def U(self) -> Array:
        """Upper triangular, M⁻ᵀ: (H_JJ)⁻¹ = U_JJᵀ U_JJ for every trailing J."""
        # Mᵀ is what LAPACK, which reads by columns, takes without a copy.
        U, info = lapack.dtrtri(self.M.T, lower=0)
        if info:
            raise ValueError(f"gram plus damping is singular at column {info}")
        inverse: Array = U
        return inverse

    @cached_property
    def E(self) -> Array:
        """(Ŵ − W) Mᵀ, (c, b): its columns of a block hold the loss of that block."""
        return times_lower_transposed(self.pruned - self.W, self.M)

    @cached_property
    def zeros(self) -> Mask:
        """Where Ŵ is 0, (c, b)."""
        zeros: Mask = self.pruned == 0
        return zeros

    @cached_property
    def E_rounding(self) -> Array:
        """A bound of the rounding errors in E that right code makes, (c, b)."""
        sizes = times_lower_transposed(
            magnitudes(self.W) + magnitudes(self.pruned), magnitudes(self.M)
        )
        bound = (ROUNDINGS * self.u + self.u_storage) * sizes.astype(np.float64)
        if self.half_step:
            bound += self.half_step * np.abs(self.M).sum(axis=1)
        return bound


def magnitudes(matrix: Array) -> Sizes:
    """|matrix| in float32: enough for the size of an error, and twice as fast to multiply."""
    return np.abs(matrix.astype(np.float32))


def times_lower_transposed(left: NDArray[Real], lower: NDArray[Real]) -> NDArray[Real]:
    """`left` @ `lower`.T for a lower triangular matrix, without most of its zeros."""
    product = np.empty_like(left)
    for j1, j2 in column_blocks(len(lower), 256):
        product[:, j1:j2] = left[:, :j2] @ lower[j1:j2, :j2].T
    return product


def times_power_of_two(values: Array, exponent: int) -> Array:
    """Exact; in two halves because 2**exponent itself may overflow. np.ldexp takes ten times."""
    half = exponent // 2
    scaled = values * 2.0**half
    scaled *= 2.0 ** (exponent - half)
    return scaled


def make_case(
    weight: ArrayLike,
    gram: ArrayLike,
    pruned_weight: ArrayLike,
    damping: float,
    arithmetic: str,
    storage: str | None,
) -> Case:
    """Check and scale the input of a certificate. Raises ValueError; Ŵ may hold anything."""
    W, G = _matrix("weight", weight), _matrix("gram", gram)
    pruned = _matrix("pruned_weight", pruned_weight, finite=False)
    if pruned.shape != W.shape:
        raise ValueError(f"pruned_weight must have the shape {W.shape}, got {pruned.shape}")
    if G.shape != (W.shape[1], W.shape[1]):
        raise ValueError(f"gram must be {W.shape[1]} x {W.shape[1]}, got {G.shape}")
    if not 0 < damping < np.inf:
        raise ValueError(f"damping must be positive and finite, got {damping}")
    if arithmetic not in ("float64", "float32"):
        raise ValueError(f"arithmetic must be float64 or float32, got {arithmetic!r}")
    if storage is not None and storage not in UNIT_ROUNDOFF:
        raise ValueError(f"storage must be one of {', '.join(UNIT_ROUNDOFF)}, got {storage!r}")
    u = UNIT_ROUNDOFF[arithmetic]
    narrower = storage is not None and UNIT_ROUNDOFF[storage] > u

    diagonal = np.diag(G)
    if (diagonal < 0).any():
        raise ValueError(f"gram must have no negative diagonal entry, got {diagonal.min()}")
    mean = float(np.sum(diagonal / len(G)))  # divided first: the sum may overflow
    weight_exponent = _exponent(float(np.abs(W).max()))
    gram_exponent = _exponent(mean)
    return Case(
        W=times_power_of_two(W, -weight_exponent),
        G=_symmetric(times_power_of_two(G, -gram_exponent)),
        pruned=times_power_of_two(pruned, -weight_exponent),
        lam=damping * np.ldexp(mean, -gram_exponent) if mean > 0 else 1.0,
        u=u,
        u_storage=UNIT_ROUNDOFF[storage] if storage and narrower else 0.0,
        half_step=float(np.ldexp(SMALLEST[storage] / 2, -weight_exponent))
        if storage and narrower
        else 0.0,
        weight_exponent=weight_exponent,
        loss_exponent=2 * weight_exponent + gram_exponent,
    )


def _symmetric(G: Array) -> Array:
    # Panel by panel: reading a large matrix by columns misses the cache.
    if all(np.array_equal(G[i:j, :j], G[:j, i:j].T) for i, j in column_blocks(len(G), 64)):
        return G
    norms = np.sqrt(np.diag(G))
    if (np.abs(G - G.T) > 1e-5 * np.outer(norms, norms)).any():
        raise ValueError(f"gram must be symmetric, got a difference of {np.abs(G - G.T).max()}")
    return (G + G.T) / 2


def _matrix(name: str, values: ArrayLike, finite: bool = True) -> Array:
    given = np.asarray(values)
    if given.ndim != 2 or given.size == 0:
        raise ValueError(f"{name} must be a matrix with entries, got the shape {given.shape}")
    if not np.issubdtype(given.dtype, np.floating):
        raise ValueError(f"{name} must hold floating-point numbers, got {given.dtype}")
    matrix = given.astype(np.float64)
    if finite and not np.isfinite(matrix).all():
        raise ValueError(f"{name} must be finite, got {matrix[~np.isfinite(matrix)][0]}")
    return matrix


def _exponent(value: float) -> int:
    """The e with 2**e <= value < 2**(e + 1); 0 for 0."""
    return int(np.frexp(value)[1]) - 1 if value else 0
