"""One layer in common units: scaled and damped before a method, scaled back after. Spec 1, 2."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from reference.patterns import Pattern
from thanos_torch.methods.inputs import check_gram, check_matrix, mirrored_tiles

FEW = 128  # columns that tell of most rows that they lost a weight
LARGE = 120  # powers of two up to this one are float32 numbers


@dataclass(frozen=True)
class ScaledLayer:
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
) -> ScaledLayer:
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
    return ScaledLayer(weight, W, G, symmetric, damping, lam, weight_exponent, gram_exponent)


def _symmetrise(matrix: Tensor) -> None:
    """The mean of a matrix and its transpose, in its place."""
    for tile, other in mirrored_tiles(matrix):
        mean = tile / 2 + other.T / 2
        tile.copy_(mean)
        other.copy_(mean.T)


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
