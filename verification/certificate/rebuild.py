"""The weights as they were when a mask was chosen, rebuilt from the final ones. Spec T9.

Nobody traces the run: while the columns before j1 are final and those of J = [j1, b) are at
their best for them, W_J = (original W)_J − D_< N with N = H_<J (H_JJ)⁻¹ = (M_J<)ᵀ U_JJ.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reference.patterns import column_blocks
from verification.certificate.case import (
    Array,
    Case,
    Indices,
    Real,
    Sizes,
    magnitudes,
    times_lower_transposed,
)
from verification.thresholds import UNIT_ROUNDOFF

PART = 2**21  # numbers of a product, or of two factors of sums, that are held at one time
# Sums of products, entry by entry, take about so many times as long as in one matrix product: 80 to
# 250 times were seen, more on two threads and in short sums.
GATHERED = 128
# A sum of n squares in float32 is off by at most n u of its size: that of 2**17 columns, by this.
FLOAT32_SUMS = 2**17 * UNIT_ROUNDOFF["float32"]


def at_own_block(case: Case, width: int) -> tuple[Array, Sizes]:
    """Every column as it was at the start of its own block of `width` columns.

    Returns the weights, (c, b), and |Ŵ_<| |N|, (c, b), which scales their rounding error.
    """
    M, U = case.M, case.U
    # Of U_JJ only the rows of the block matter for the block's own columns: U is triangular.
    N_sizes = np.zeros(M.shape, dtype=np.float32)
    weights = np.empty_like(case.W)
    for j1, j2 in column_blocks(len(M), width):
        N_sizes[:j1, j1:j2] = magnitudes(M[j1:j2, :j1].T @ U[j1:j2, j1:j2])
        weights[:, j1:j2] = case.pruned[:, j1:j2] - case.E[:, j1:j2] @ U[j1:j2, j1:j2]
    weights[:, :width] = case.W[:, :width]  # nothing has moved yet: no rounding either
    # N is zero from its diagonal down.
    return weights, times_lower_transposed(magnitudes(case.pruned), N_sizes.T)


@dataclass(frozen=True)
class Rebuilt:
    """The columns J = [j1, b) that are left at the start of the block [j1, j2).

    weights  W_J, (c, b - j1)
    final    |Ŵ_<|, (c, j1)
    lengths  ‖Ŵ_i,<‖, (c, 1)
    N        Nᵀ, (b - j1, j1); it scales rounding errors only: float32 is enough for it
    """

    block: tuple[int, int]
    weights: Array
    final: Sizes
    lengths: Array
    N: Sizes

    def spread(self, rows: Indices, columns: Indices) -> Sizes:
        """|Ŵ_<| |N|, which scales rounding errors, of some entries; columns count from j1."""
        if len(rows) * GATHERED > self.weights.size:
            everywhere = self.final @ np.abs(self.N).T
            return everywhere[rows, columns]
        found = np.empty(len(rows), dtype=np.float32)
        for k1, k2 in column_blocks(len(rows), max(1, PART // max(1, self.block[0]))):
            N = np.abs(self.N[columns[k1:k2]])
            found[k1:k2] = np.einsum("kl,kl->k", self.final[rows[k1:k2]], N)
        return found

    def spread_bound(self) -> tuple[Array, Array]:
        """x, (c, 1), and y, (b - j1,), with x_i y_j at least (|Ŵ_<| |N|)_ij: Cauchy and Schwarz."""
        squares = np.einsum("jl,jl->j", self.N, self.N).astype(np.float64)
        return self.lengths, np.sqrt(squares) * (1 + FLOAT32_SUMS)


def at_every_block(case: Case, width: int) -> Iterator[Rebuilt]:
    """All columns that are left, at the start of every block."""
    M, U, E = case.M, case.U, case.E
    weights = case.W.copy()
    final = magnitudes(case.pruned)
    squares = np.zeros((len(weights), 1))
    N = np.zeros(M.shape, dtype=np.float32)  # of all columns, Nᵀ
    for j1, j2 in column_blocks(len(M), width):
        yield Rebuilt((j1, j2), weights[:, j1:], final[:, :j1], np.sqrt(squares), N[j1:, :j1])
        squares += np.sum(case.pruned[:, j1:j2] ** 2, axis=1, keepdims=True)
        # D_< N = −Σ E_k U_kJ over the blocks before J, and so N = −Σ (M_k<)ᵀ U_kJ.
        U_kJ = U[j1:j2, j2:]
        _add_product(weights[:, j2:], E[:, j1:j2], U_kJ)
        _add_product(N[j2:, :j2], -U_kJ.T.astype(np.float32), M[j1:j2, :j2].astype(np.float32))


def _add_product(target: NDArray[Real], left: NDArray[Real], right: NDArray[Real]) -> None:
    """Add left @ right, some rows at a time: the whole product would need its own memory."""
    rows, columns = target.shape
    for i1, i2 in column_blocks(rows, max(1, PART // max(1, columns))):
        target[i1:i2] += left[i1:i2] @ right
