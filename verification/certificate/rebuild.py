"""The weights as they were when a mask was chosen, rebuilt from the final ones. Spec T9.

Nobody traces the run: while the columns before j1 are final and those of J = [j1, b) are at
their best for them, W_J = (original W)_J − D_< N with N = H_<J (H_JJ)⁻¹ = (M_J<)ᵀ U_JJ.
"""

from collections.abc import Iterator

import numpy as np

from reference.patterns import column_blocks
from verification.certificate.case import Array, Case, Sizes, magnitudes, times_lower_transposed


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


def at_every_block(case: Case, width: int) -> Iterator[tuple[tuple[int, int], Array, Sizes]]:
    """All columns that are left, at the start of every block: (j1, j2), W_J, |Ŵ_<| |N|."""
    M, U, E = case.M, case.U, case.E
    weights = case.W.copy()
    sizes = magnitudes(case.pruned)
    # N scales rounding errors only: float32 is enough for it.
    N = np.zeros(M.shape, dtype=np.float32)
    for j1, j2 in column_blocks(len(M), width):
        yield (j1, j2), weights[:, j1:], sizes[:, :j1] @ np.abs(N[:j1, j1:])
        # D_< N = −Σ E_k U_kJ over the blocks before J, and so N = −Σ (M_k<)ᵀ U_kJ.
        weights[:, j2:] += E[:, j1:j2] @ U[j1:j2, j2:]
        N[:j2, j2:] -= M[j1:j2, :j2].T.astype(np.float32) @ U[j1:j2, j2:].astype(np.float32)
