"""How the kept weights make up for the removed ones, and the walk over all blocks. Spec 4.

Every update overwrites a block's current weights by its new ones and returns E_k = D_k M_kkᵀ for
the move D_k between them, all (c, B). E_k is all that the rest needs: the columns behind the block
move by E_k U_kJ, and ‖E_k‖² is the loss (T3).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from reference.patterns import column_blocks
from thanos_torch.methods.devices import on_host
from thanos_torch.methods.masks import smallest_of_first
from thanos_torch.methods.solver import MaskedSolver

# Rows are solved in parts of so many entries, half a MB in float32: what a step touches stays in
# the cache, and the memory for it does not grow with the block. Rows have systems of their own,
# so the parts change nothing.
ENTRIES = 2**17
MIN_ROWS = 64


def joint_update(W: Tensor, mask: Tensor, U: Tensor, solver: MaskedSolver) -> Tensor:
    """Joint update of one block, spec (6).

    W, mask  (c, B), the block's current weights and picks
    U        (B, B), the block's part of U
    """
    # R_kk = U_kkᵀ U_kk, for U is upper triangular. The move −μ R_kJ is (−μ U_kkᵀ) U_kJ, so one
    # product with U_kkᵀ gives E_k, and R_kJ is never formed.
    block = solver.system(U)
    accurate = U.to(block.exact.dtype)  # digits of μ cancel in E_k where R is far from diagonal
    E = torch.empty(W.shape, dtype=W.dtype, device=W.device)
    # A device has no use for parts.
    rows_at_once = max(MIN_ROWS, ENTRIES // len(U)) if on_host(W) else len(W)
    for start, end in column_blocks(len(W), rows_at_once):
        rows = slice(start, end)
        mu = solver.multipliers(block, mask[rows], W[rows])
        E[rows] = (mu @ accurate.T).neg_()
        zeroed(W[rows].addmm_(E[rows], U), ~mask[rows])
    return E


def sequential_update(W: Tensor, mask: Tensor, U: Tensor) -> Tensor:
    """SparseGPT's update: one column after another, the earlier ones frozen.

    Arguments and result as for `joint_update`.
    """
    picks = mask.T.to(W.dtype, memory_format=torch.contiguous_format)
    return _sweep(W, U, lambda columns, j: picks[j])


def choosing_sequential_update(W: Tensor, U: Tensor, n: int, m: int) -> tuple[Tensor, Tensor]:
    """`sequential_update` that chooses the picks of each group of m when it gets there. Spec 6.

    Returns E_k and the mask.
    """
    picks = torch.zeros(W.T.shape, dtype=torch.bool, device=W.device)
    pivots = U.diagonal()[:, None]

    def choose(columns: Tensor, j: int) -> Tensor:
        if j % m == 0:
            score = (columns[j : j + m] / pivots[j : j + m]).square()
            picks[j : j + m] = smallest_of_first(score, n)
        return picks[j].to(columns.dtype)

    return _sweep(W, U, choose), picks.T


def _sweep(W: Tensor, U: Tensor, picks_of: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Spec (6) for one column j after another, where R_jJ / R_jj = U_jJ / U_jj. Returns E_k.

    picks_of  (current columns, (B, c); j) -> the picks of column j, (c,), 1 or 0
    """
    columns = W.T.clone(memory_format=torch.contiguous_format)  # a column is contiguous in it
    E = torch.zeros_like(columns)
    for j in range(len(U)):
        picks = picks_of(columns, j)
        E[j] = (columns[j] / -U[j, j]).mul_(picks)
        columns[j + 1 :].addr_(U[j, j + 1 :], E[j])
        zeroed(columns[j], 1 - picks)
    W.copy_(columns.T)
    return E.T


def zeroed(values: Tensor, keep: Tensor) -> Tensor:
    """`values` with +0.0 where `keep` is 0 or False, in place.

    A product is several times faster than filling by a mask that no branch predictor foresees.
    It leaves -0.0 where a negative value was; adding 0.0 makes that +0.0 and changes nothing else.
    """
    return values.mul_(keep).add_(0.0)


# (current W, (j1, j2), picks) -> E_k, (c, j2 - j1); the picks of the block, (c, j2 - j1), are
# written, and the block's columns of W overwritten
BlockStep = Callable[[Tensor, tuple[int, int], Tensor], Tensor]


def walk_blocks(W: Tensor, U: Tensor, block_size: int, step: BlockStep) -> tuple[Tensor, Tensor]:
    """Prune block by block, left to right; `step` picks a block's mask and updates it.

    W  (c, b), the current weight, overwritten by Ŵ: fresh memory of its size is what costs most
    U  (b, b), of the factor

    Returns the mask, (c, b), and the loss of every block, (blocks,) float64. Nothing here waits
    for a device: what depends on the data stays in tensors of fixed shapes.
    """
    mask = torch.zeros(W.shape, dtype=torch.bool, device=W.device)
    norms = []
    for j1, j2 in column_blocks(W.shape[1], block_size):
        E = step(W, (j1, j2), mask[:, j1:j2])
        W[:, j2:].addmm_(E, U[j1:j2, j2:])
        # Row by row, for a copy of E in float64 would cost more than the block's update.
        norms.append(torch.linalg.vector_norm(E, dim=1))
    losses: Tensor = torch.linalg.vector_norm(torch.stack(norms), dim=1, dtype=torch.float64)
    return mask, losses.square_()
