"""The common start and end of every method: check, scale, damp; scale back. Spec sections 1, 2."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from reference.patterns import Pattern, column_blocks

TILE = 256  # rows and columns of G that are compared with their transpose at one time
FEW = 128  # columns that tell of most rows that they lost a weight
LARGE = 120  # powers of two up to this one are float32 numbers


@dataclass(frozen=True)
class Layer:
    """One layer's problem in units in which max|W| and mean(diag G) are near 1.

    The units are powers of two (for G powers of four, so that its square roots scale exactly as
    well): by T7 no mask changes, no rounding is added, and float32 neither over- nor underflows.

    original          (c, b), as given
    weight            (c, b), W in units of 2**weight_exponent, in the arithmetic of the run
    gram              (b, b), G as given: a copy would be large
    symmetric         whether it equals its transpose; otherwise copies are made to
    damping           γ
    lam               λ = γ · mean(diag G) in units of 2**gram_exponent, or 1 for a zero G
    """

    original: Tensor
    weight: Tensor
    gram: Tensor
    symmetric: bool
    damping: float
    lam: float
    weight_exponent: int
    gram_exponent: int

    @property
    def dtype(self) -> torch.dtype:
        """The arithmetic of the run: float64 for a float64 weight, float32 for all others."""
        return self.weight.dtype

    def hessian(self, dtype: torch.dtype, order: Tensor | None = None) -> Tensor:
        """H = G + λI, (b, b), in new memory, its rows and columns in `order`. Spec section 1."""
        H = self.scaled_gram(dtype, order)
        H.diagonal().add_(self.lam)
        return H

    def scaled_gram(self, dtype: torch.dtype, order: Tensor | None = None) -> Tensor:
        """G in its units, (b, b), in new memory: never in a type too narrow for it before."""
        G = self.gram
        if order is not None:
            # G is its own transpose, or will be: rows are gathered many times faster than columns.
            G = G[order].T.contiguous()[order]
        G = G.to(torch.promote_types(G.dtype, dtype), copy=order is None)
        if not self.symmetric:
            _symmetrise(G)
        return _scale_in_place(G, -self.gram_exponent).to(dtype)

    def squared_norms(self) -> Tensor:
        """‖X_j‖² = G_jj, (b,), in new memory."""
        return _times_power_of_two(self.gram.diagonal(), -self.gram_exponent)

    def column_norms(self) -> Tensor:
        """‖X_j‖ = sqrt(G_jj), (b,). Spec section 1."""
        return self.squared_norms().sqrt_().to(self.dtype)

    def scaled_weight(self, weight: Tensor) -> Tensor:
        """Another weight of this layer in the layer's units and arithmetic."""
        return _times_power_of_two(weight.to(self.dtype), -self.weight_exponent)

    def restored(self, weight: Tensor, mask: Tensor) -> Tensor:
        """A result in the units and dtype of the original; rows that lost nothing bit for bit.

        `weight` is overwritten: fresh memory of its size costs more than the scaling.
        """
        restored = _scale_in_place(weight, self.weight_exponent).to(self.original.dtype)
        untouched = _rows_without(mask)
        restored[untouched] = self.original[untouched]
        return restored

    def restored_losses(self, losses: Tensor) -> Tensor:
        """Losses in the units of the original, float64."""
        exponent = 2 * self.weight_exponent + self.gram_exponent
        return _times_power_of_two(losses.double(), exponent)


def prepare(
    weight: Tensor, gram: Tensor, pattern: Pattern, block_size: int, damping: float
) -> Layer:
    """Check the arguments of a method and bring them to common units; ValueError names what is bad.

    weight (c, b) in float64, float32, float16 or bfloat16; gram (b, b) on the same device.
    """
    if not 0 < damping < math.inf:
        raise ValueError(f"damping must be positive and finite, got {damping}")
    ends = check_matrix("weight", weight)
    symmetric = check_gram(gram, weight)
    pattern.check(weight.shape[0], weight.shape[1], block_size)

    arithmetic = torch.float64 if weight.dtype == torch.float64 else torch.float32
    weight_exponent = _exponent(max(abs(end) for end in ends))
    W = _times_power_of_two(weight.to(arithmetic), -weight_exponent)

    G = gram if gram.dtype == torch.float64 else gram.float()
    # Divided first: a sum of entries near the largest number would overflow.
    mean = (G.diagonal().double() / len(G)).sum().item()
    gram_exponent = 2 * (_exponent(mean) // 2)
    lam = damping * math.ldexp(mean, -gram_exponent) if mean > 0 else 1.0
    return Layer(weight, W, G, symmetric, damping, lam, weight_exponent, gram_exponent)


def check_matrix(name: str, matrix: Tensor) -> tuple[float, float]:
    """The least and the largest entry; refuses what is no finite matrix. Spec section 2."""
    if matrix.dim() != 2 or matrix.numel() == 0:
        raise ValueError(f"{name} must be a matrix with entries, got shape {tuple(matrix.shape)}")
    if not matrix.is_floating_point():
        raise ValueError(f"{name} must hold floating-point numbers, got {matrix.dtype}")
    least, largest = torch.stack(matrix.aminmax()).tolist()
    if not (math.isfinite(least) and math.isfinite(largest)):  # NaN is both ends of what holds it
        i, j = (~torch.isfinite(matrix)).nonzero()[0].tolist()
        raise ValueError(f"{name} must be finite, got {name}[{i}, {j}] = {matrix[i, j].item()}")
    return least, largest


def check_gram(gram: Tensor, weight: Tensor) -> bool:
    """Whether it is exactly symmetric; refuses what is no Gram matrix of inputs. Spec section 2."""
    check_matrix("gram", gram)
    columns = weight.shape[1]
    if gram.shape != (columns, columns):
        raise ValueError(
            f"gram must be {columns} x {columns} like the columns of the weight, "
            f"got {gram.shape[0]} x {gram.shape[1]}"
        )
    if gram.device != weight.device:
        raise ValueError(f"gram must be on {weight.device} like the weight, got {gram.device}")
    diagonal = gram.diagonal()
    if (diagonal < 0).any():
        j = int(diagonal.argmin())
        raise ValueError(f"gram[{j}, {j}] must not be negative, got {diagonal[j].item()}")
    for j in (diagonal == 0).nonzero()[:, 0].tolist():
        if gram[j].any():
            raise ValueError(f"gram[{j}, {j}] is 0 but row {j} is not: no Gram matrix is like that")
    if _is_symmetric(gram):
        return True
    norms = diagonal.double().sqrt()
    asymmetry = (gram.double() - gram.double().T).abs() - 1e-5 * torch.outer(norms, norms)
    if (asymmetry > 0).any():
        i, j = divmod(int(asymmetry.argmax()), columns)
        raise ValueError(
            f"gram must be symmetric, got gram[{i}, {j}] = {gram[i, j].item()} "
            f"and gram[{j}, {i}] = {gram[j, i].item()}"
        )
    return False


def _is_symmetric(matrix: Tensor) -> bool:
    """Whether it equals its transpose."""
    return all(torch.equal(tile, other.T.contiguous()) for tile, other in _mirrored_tiles(matrix))


def _symmetrise(matrix: Tensor) -> None:
    """The mean of a matrix and its transpose, in its place."""
    for tile, other in _mirrored_tiles(matrix):
        mean = tile / 2 + other.T / 2
        tile.copy_(mean)
        other.copy_(mean.T)


def _mirrored_tiles(matrix: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Tiles of the lower triangle, each with its mirror image: reading by columns is slow."""
    tiles = list(column_blocks(len(matrix), TILE))
    for row, (i1, i2) in enumerate(tiles):
        for j1, j2 in tiles[: row + 1]:
            yield matrix[i1:i2, j1:j2], matrix[j1:j2, i1:i2]


def _rows_without(mask: Tensor) -> Tensor:
    """The indices of rows without True; few columns are looked at as long as those tell."""
    rows = torch.arange(len(mask), device=mask.device)
    for start, end in ((0, FEW), (FEW, mask.shape[1])):
        rows = rows[~mask[rows, start:end].any(dim=1)]
    return rows


def _exponent(value: float) -> int:
    """The e with 2**e <= value < 2**(e + 1); 0 for 0."""
    return math.frexp(value)[1] - 1 if value else 0


def _times_power_of_two(values: Tensor, exponent: int) -> Tensor:
    """Exact, in new memory."""
    if abs(exponent) > LARGE:
        return _scale_in_place(values.clone(), exponent)
    return values * 2.0**exponent


def _scale_in_place(values: Tensor, exponent: int) -> Tensor:
    """Times 2**exponent, in two halves where the factor itself may overflow."""
    if abs(exponent) > LARGE:
        half = exponent // 2
        return values.mul_(2.0**half).mul_(2.0 ** (exponent - half))
    return values.mul_(2.0**exponent) if exponent else values
