"""How the kept weights make up for the removed ones. Spec section 4.

Every update overwrites a block's current weights by its new ones and returns E_k = D_k M_kkᵀ for
the move D_k between them, all (c, B). E_k is all that the rest needs: the columns behind the block
move by E_k U_kJ, and ‖E_k‖² is the loss (T3).
"""

import torch
from torch import Tensor

from reference.patterns import column_blocks
from thanos_torch.result import Diagnostics
from thanos_torch.selection import smallest_of_first
from thanos_torch.solver import BlockSystem, MaskedSolver

# Rows are solved in parts of so many entries, half a MB in float32: what a step touches stays in
# the cache, and the memory for it does not grow with the block.
ENTRIES = 2**17
MIN_ROWS = 64


def joint_update(
    W: Tensor, mask: Tensor, U: Tensor, solver: MaskedSolver, diagnostics: Diagnostics
) -> Tensor:
    """Joint update of one block, spec (6).

    W, mask  (c, B), the block's current weights and picks
    U        (B, B), the block's part of U
    """
    # R_kk = U_kkᵀ U_kk, for U is upper triangular. The move −μ R_kJ is (−μ U_kkᵀ) U_kJ, so one
    # product with U_kkᵀ gives E_k, and R_kJ is never formed.
    block = BlockSystem.of(U, benign=diagnostics.factor == "float32")
    E, most = torch.empty(W.shape, dtype=W.dtype, device=W.device), 0
    for start, end in column_blocks(len(W), max(MIN_ROWS, ENTRIES // len(U))):
        rows = slice(start, end)
        move = (solver.multipliers(block, mask[rows], W[rows]).to(U.dtype) @ U.T).neg_()
        zeroed(W[rows].addmm_(move, U), ~mask[rows])
        E[rows] = move
        most = max(most, solver.steps)
    diagnostics.solver_steps.append(most)
    return E


def sequential_update(W: Tensor, mask: Tensor, U: Tensor) -> Tensor:
    """One column after another, the earlier ones frozen: SparseGPT's update. Shapes as above."""
    columns, picks = _by_column(W), mask.T.to(W.dtype, memory_format=torch.contiguous_format)
    E = torch.zeros_like(columns)
    for j in range(len(U)):
        _remove_column(columns, picks[j], U, E, j)
    W.copy_(columns.T)
    return E.T


def choosing_sequential_update(W: Tensor, U: Tensor, n: int, m: int) -> tuple[Tensor, Tensor]:
    """The same, with the picks of every group of m chosen when the sweep reaches it. Spec 6.

    Returns E_k and the mask.
    """
    columns = _by_column(W)
    E = torch.zeros_like(columns)
    picks = torch.zeros_like(columns, dtype=torch.bool)
    pivots = U.diagonal()[:, None]
    for j in range(len(U)):
        if j % m == 0:
            score = (columns[j : j + m] / pivots[j : j + m]).square()
            picks[j : j + m] = smallest_of_first(score, n)
        _remove_column(columns, picks[j].to(columns.dtype), U, E, j)
    W.copy_(columns.T)
    return E.T, picks.T


def _remove_column(columns: Tensor, picks: Tensor, U: Tensor, E: Tensor, j: int) -> None:
    """Spec (6) for the one column j: R_jJ / R_jj = U_jJ / U_jj; `picks` is 1 or 0."""
    E[j] = (columns[j] / -U[j, j]).mul_(picks)
    columns[j + 1 :].addr_(U[j, j + 1 :], E[j])
    zeroed(columns[j], 1 - picks)


def zeroed(values: Tensor, keep: Tensor) -> Tensor:
    """`values` with +0.0 where `keep` is 0 or False, in place.

    A product is several times faster than filling by a mask that no branch predictor foresees;
    adding 0 makes a plus of the minus that it leaves on some zeros.
    """
    return values.mul_(keep).add_(0.0)


def _by_column(W: Tensor) -> Tensor:
    """A transposed copy: a sweep goes over columns, which are contiguous in it."""
    return W.T.clone(memory_format=torch.contiguous_format)
