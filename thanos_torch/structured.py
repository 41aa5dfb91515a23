"""Structured pruning with outlier rows: one block, one set of columns for all rows. Spec (5)."""

import torch
from torch import Tensor

from reference.patterns import Structured, column_blocks
from thanos_torch.factor import inverse_factor, reversed_cholesky
from thanos_torch.layer import Layer
from thanos_torch.result import Diagnostics, Pruned
from thanos_torch.scores import column_factors, outlier_mask, scores
from thanos_torch.selection import smallest
from thanos_torch.update import sequential_update

# Columns that the sequential ablation sweeps before it moves all those behind them.
SWEEP = 128


def structured(layer: Layer, pattern: Structured, update: str, metric: str) -> Pruned:
    """Remove whole columns from the ordinary rows, spec (5) and (6). One block loss."""
    W = layer.weight
    outliers = outlier_mask(layer, pattern).flatten()
    # A slice is a view where indices would copy.
    rows = (~outliers).nonzero()[:, 0] if outliers.any() else slice(None)
    needs_U = update == "sequential" or metric == "obs"
    diagnostics = Diagnostics()
    U = inverse_factor(layer, diagnostics) if needs_U else layer.gram
    S = scores(W[rows], column_factors(layer, U, metric), metric)
    v = (S if metric == "obs" else S.square_()).sum(dim=0)  # obs is a square already
    removed = smallest(v[None], pattern.removed(W.shape[1]))[0]
    mask = torch.zeros_like(W, dtype=torch.bool)
    mask[rows] = removed
    del S

    change = _joint if update == "joint" else _sequential
    pruned, loss = change(layer, W[rows], removed, U)
    W[rows] = pruned  # in place of the scaled weight: nobody needs it any more
    return Pruned(layer.restored(W, mask), mask, layer.restored_losses(loss[None]), diagnostics)


def _joint(layer: Layer, W: Tensor, removed: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
    """Spec (6) with J = all columns: least squares on the columns F that stay.

    With the removed columns q moved to the front, M falls into M_qq, M_Fq, M_FF. The optimum has
    E_F = D_q M_Fqᵀ + D_F M_FFᵀ = 0 with D_q = −W_q: one triangular solve gives D_F, no inverse is
    needed, and E_q = D_q M_qqᵀ is all of the loss.
    """
    q, F = removed.nonzero()[:, 0], (~removed).nonzero()[:, 0]
    M = reversed_cholesky(layer, order=torch.cat([q, F]))
    s = len(q)
    columns = W.T.contiguous()  # columns of W, (b, c): gathered many times faster than in W
    W_q = columns[q]
    D_F = torch.linalg.solve_triangular(M[s:, s:], M[s:, :s] @ W_q, upper=False)
    loss = (M[:s, :s] @ W_q).double().square().sum()
    columns[q] = 0.0
    columns[F] += D_F
    return columns.T, loss


def _sequential(layer: Layer, W: Tensor, removed: Tensor, U: Tensor) -> tuple[Tensor, Tensor]:
    """The ablation: the removed columns one after another, the earlier ones frozen."""
    pruned = W.clone()
    loss = torch.zeros((), dtype=torch.float64, device=W.device)
    for j1, j2 in column_blocks(W.shape[1], SWEEP):
        picks = removed[j1:j2].expand(len(W), -1)
        pruned[:, j1:j2], E = sequential_update(pruned[:, j1:j2], picks, U[j1:j2, j1:j2])
        pruned[:, j2:].addmm_(E, U[j1:j2, j2:])
        loss += E.double().square().sum()
    return pruned, loss
