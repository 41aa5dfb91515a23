"""The layer under judgement: checked, in float64, in units near 1, with the factors of H.

Nothing here is taken from the implementations: the certificate has its own scaling, damping and
factorisation. docs/certificate.md, "Units".
"""

import math
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from reference.patterns import column_blocks
from verification.certificate.device_array import DeviceArray, pieces
from verification.certificate.factors import factorised, inverse_transposed
from verification.certificate.libraries import Library, at_home, on_host
from verification.certificate.storage import not_of_type, rounds_to
from verification.thresholds import ROUNDINGS, UNIT_ROUNDOFF

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Indices = NDArray[np.intp]

Real = TypeVar("Real", np.float32, np.float64)

# Columns of a triangular product that are made at one time, at least and, on a device, at most.
PANEL, WIDE_PANEL = 256, 2048


@dataclass(frozen=True)
class ScaledCase:
    """W, G and Ŵ, each row of W and Ŵ in a power of two of its own.

    In these units max|W_i| of every row lies in [1, 2) and mean(diag G) in [1, 4), or they are 0.
    The unit of G is a power of four, so that ‖X_j‖ has the digits that it has in the units given.

    W, pruned      W and Ŵ, (c, b)
    zeros          where Ŵ as given is 0, (c, b)
    unchanged      where Ŵ as given has the bits of W, rounded to its storage type, (c, b)
    G              symmetrised, (b, b)
    lam            λ
    damping        γ
    u              unit roundoff of the implementation's arithmetic
    storage        the narrower type that Ŵ was rounded to, or None
    strangers      entries of Ŵ as given that are no numbers of that type
    vanished       whether a number of W, or of the diagonal of G, is too small for its unit
    row_exponents  log2 of the rows' units, (c,)
    gram_exponent  log2 of the unit of G
    """

    W: Array
    pruned: Array
    zeros: Mask
    unchanged: Mask
    G: Array
    lam: float
    damping: float
    u: float
    storage: str | None
    strangers: int
    vanished: bool
    row_exponents: NDArray[np.int64]
    gram_exponent: int

    @property
    def M(self) -> Array:
        """Lower triangular with H = Mᵀ M."""
        return self._factor[0]

    @property
    def condition(self) -> float:
        """κ₁(H), estimated from below; seldom by more than a factor of 3."""
        return self._factor[1]

    def factorise(self) -> None:
        """Raise ValueError if H is not positive definite in float64."""
        _ = self._factor

    @cached_property
    def _factor(self) -> tuple[Array, float]:
        return factorised(self.shifted(1.0))

    def shifted(self, share: float) -> Array:
        """G + share · λI: H for 1."""
        matrix = self.G.copy()
        diagonal = np.arange(len(matrix), like=matrix)
        matrix[diagonal, diagonal] += share * self.lam
        return matrix

    @cached_property
    def U(self) -> Array:
        """Upper triangular, M⁻ᵀ: (H_JJ)⁻¹ = U_JJᵀ U_JJ for every trailing J."""
        return inverse_transposed(self.M)

    @cached_property
    def norms(self) -> Array:
        """‖X_j‖, (b,)."""
        return np.sqrt(np.diag(self.G))

    @cached_property
    def H_diagonal(self) -> Array:
        """H_jj, (b,)."""
        diagonal: Array = np.diag(self.G) + self.lam
        return diagonal

    @property
    def trace_over_damping(self) -> float:
        """tr(H) / λ; infinite if λ is too small for float64."""
        return float(self.H_diagonal.sum()) / self.lam if self.lam else math.inf

    @property
    def factor_share(self) -> float:
        """How far factorising H in float64 may move weights, as a share of a row's largest.

        D = E U, E is off by some u ‖E‖, and ‖E‖ ‖U‖ is at most ‖D‖ √κ.
        """
        return float(ROUNDINGS * UNIT_ROUNDOFF["float64"] * math.sqrt(self.condition))

    def totals(self, *squares: Array) -> list[float]:
        """Sums over the rows, (c,) each, of squares in the units of the rows.

        They have one unit, in which the largest square is about 1: what is lost in a row may be
        small beside what another row weighs, but not beside what is lost there.
        """
        largest = reduce(np.maximum, squares)
        exponents = np.frexp(largest)[1] + 2 * self.row_exponents
        unit = int(exponents[largest > 0].max(initial=0 if not largest.any() else -(2**40)))
        shift = np.clip(2 * self.row_exponents - unit, -4000, 4000)
        return [float(np.ldexp(each, shift).sum()) for each in squares]

    def row_scales(self, rows: Indices) -> Array:
        """The units of some rows over the largest of them, (rows, 1): for sums over rows."""
        exponents = self.row_exponents[rows]
        scales: Array = np.exp2(np.maximum(exponents - exponents.max(initial=-5000), -1074.0))
        return scales[:, None]


def row_squares(rows: NDArray[Real]) -> NDArray[Real]:
    """The squared length of every row, without a copy of them."""
    squares: NDArray[Real] = np.einsum("ij,ij->i", rows, rows)
    return squares


def times_lower_transposed(left: NDArray[Real], lower: NDArray[Real]) -> NDArray[Real]:
    """`left` @ `lower`.T for a lower triangular matrix, without most of its zeros."""
    product = np.empty_like(left)
    for j1, j2 in column_blocks(len(lower), _panel(left)):
        np.matmul(left[:, :j2], lower[j1:j2, :j2].T, out=product[:, j1:j2])
    return product


def times_lower(left: Array, lower: Array) -> Array:
    """`left` @ `lower` for a lower triangular matrix, without most of its zeros."""
    product = np.empty_like(left)
    for j1, j2 in column_blocks(len(lower), _panel(left)):
        np.matmul(left[:, j1:], lower[j1:, j1:j2], out=product[:, j1:j2])
    return product


def _panel(left: NDArray[Any]) -> int:
    return min(max(PANEL, pieces(left, PANEL * len(left)) // len(left)), WIDE_PANEL)


def make_case(
    weight: Any,
    gram: Any,
    pruned_weight: Any,
    damping: float,
    arithmetic: str,
    storage: str | None,
    home: Library | None = None,
) -> ScaledCase:
    """Check and scale the input of a certificate. Raises ValueError; Ŵ may hold NaN.

    home  where to work, of `library_of`
    """
    W, G = matrix("weight", weight, home=home), matrix("gram", gram, home=home)
    pruned = matrix("pruned_weight", pruned_weight, W.shape, finite=False, home=home)
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
    if G[diagonal == 0].any():
        column = int(np.argmax((diagonal == 0) & G.any(axis=1)))
        raise ValueError(f"gram must have zeros in row {column}, whose diagonal entry is 0")
    mean = float(np.sum(diagonal / len(G)))  # divided first: the sum may overflow
    gram_exponent = int(_exponents(np.array(mean))) // 2 * 2
    sizes = np.abs(W).max(axis=1)
    # A row of zeros has no unit of its own and must not make those of others look small.
    row_exponents = _exponents(np.where(sizes > 0, sizes, sizes[sizes > 0].min(initial=np.inf)))
    W_units = in_units(W, row_exponents)
    G_units = in_units(G, np.full(len(G), gram_exponent, like=G))
    vanished = ((W_units == 0) & (W != 0)).any() or (np.diag(G_units)[diagonal > 0] == 0).any()
    return ScaledCase(
        W=W_units,
        pruned=in_units(pruned, row_exponents),
        zeros=pruned == 0,
        unchanged=unmoved(W, pruned, storage if narrower else None),
        G=_symmetric(G_units),
        lam=damping * math.ldexp(mean, -gram_exponent) if mean > 0 else 1.0,
        damping=damping,
        u=u,
        storage=storage if narrower else None,
        strangers=not_of_type(pruned, storage) if storage and narrower else 0,
        vanished=bool(vanished),
        row_exponents=row_exponents,
        gram_exponent=gram_exponent,
    )


def in_units(values: Array, exponents: NDArray[np.int64]) -> Array:
    """Each row over two to the power of its exponent. Exact, unless it leaves float64's range.

    In two halves because that power itself may overflow. np.ldexp takes ten times as long.
    """
    half = exponents // 2
    with np.errstate(over="ignore", invalid="ignore"):  # of Ŵ alone; infinity fails later
        scaled: Array = values * np.exp2(-half.astype(float))[:, None]
        scaled *= np.exp2(-(exponents - half).astype(float))[:, None]
    return scaled


def matrix(
    name: str,
    values: Any,
    shape: tuple[int, ...] | None = None,
    finite: bool = True,
    home: Library | None = None,
) -> Array:
    """A matrix in float64, exactly as given, in NumPy's memory or at `home`.

    Takes arrays of the types in UNIT_ROUNDOFF. Raises ValueError for all else: a wider type, whose
    tiny numbers float64 would call 0, among it.
    """
    given = _array(name, values, home)
    if given.ndim != 2 or given.size == 0:
        raise ValueError(f"{name} must be a matrix with entries, got the shape {given.shape}")
    if given.dtype.name not in UNIT_ROUNDOFF:
        known = ", ".join(UNIT_ROUNDOFF)
        raise ValueError(f"{name} must hold floating-point numbers ({known}), got {given.dtype}")
    if shape is not None and given.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}, got {given.shape}")
    converted: Array = given.astype(np.float64)
    if finite and not np.isfinite(converted).all():
        raise ValueError(f"{name} must be finite, got {converted[~np.isfinite(converted)][0]}")
    return converted


def mask_of(values: Any, shape: tuple[int, ...], home: Library | None = None) -> Mask:
    """A mask, True where a weight was removed; ValueError unless it holds booleans, or 0 and 1."""
    given = _array("mask", values, home)
    if given.shape != shape:
        raise ValueError(f"mask must have the shape {shape}, got {given.shape}")
    kind = given.dtype.kind
    if kind not in "biu" or not (kind == "b" or ((given == 0) | (given == 1)).all()):
        raise ValueError(f"mask must hold True and False, got {given.dtype}")
    return given.astype(bool)


def losses_of(values: Any) -> Array:
    """Reported block losses in float64; ValueError unless they are real numbers."""
    given = _array("block_losses", values)
    if given.dtype.kind not in "fiu":
        raise ValueError(f"block_losses must hold real numbers, got {given.dtype}")
    return given.astype(np.float64)


def _array(name: str, values: Any, home: Library | None = None) -> NDArray[Any]:
    """An array as it is; at `home` if that is given, else one of NumPy.

    Half types of other libraries, of which NumPy lacks one, become float32, exactly.
    """
    try:
        if home:
            found: Any = DeviceArray(at_home(values, home), home)
            _ = found.dtype  # TypeError for types that NumPy has no name for
            return found  # type: ignore[no-any-return]
        return on_host(values)
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(f"{name} must be a plain matrix of numbers: {error}") from error


def same_bits(left: Array, right: Array | float) -> Mask:
    """Where two matrices are equal, the sign of zero included."""
    same: Mask = (left == right) & (np.signbit(left) == np.signbit(right))
    return same


def unmoved(before: Array, after: Array, storage: str | None) -> Mask:
    """Where `after` has the bits of `before`, rounded to a storage type if there is one."""
    return same_bits(before, after) if storage is None else rounds_to(before, after, storage)


def _symmetric(G: Array) -> Array:
    # Panel by panel: reading a large matrix by columns misses the cache.
    panels = column_blocks(len(G), len(G) if isinstance(G, DeviceArray) else 64)
    if all(np.array_equal(G[i:j, :j], G[:j, i:j].T) for i, j in panels):
        return G
    norms = np.sqrt(np.diag(G))
    if (np.abs(G - G.T) > 1e-5 * np.outer(norms, norms)).any():
        raise ValueError(f"gram must be symmetric, got a difference of {np.abs(G - G.T).max()}")
    return (G + G.T) / 2


def _exponents(values: Array) -> NDArray[np.int64]:
    """The e with 2**e <= value < 2**(e + 1); 0 for 0 and infinity."""
    exponents = np.frexp(values)[1].astype(np.int64) - 1
    return np.where((values > 0) & np.isfinite(values), exponents, 0)
