"""Structured pruning with outlier rows: one block, one set of columns for all rows. Spec (5)."""

import torch
from torch import Tensor

from reference.patterns import Ablation, Structured, column_blocks
from thanos_torch.methods.factor import inverse_factor, reversed_cholesky
from thanos_torch.methods.masks import column_factors, outlier_mask, scores, smallest
from thanos_torch.methods.result import Diagnostics, Pruned
from thanos_torch.methods.scaled import ScaledLayer
from thanos_torch.methods.update import sequential_update

# Columns that the sequential ablation sweeps before it moves all those behind them.
SWEEP = 128
# Rows that are pruned at one time: what is in flight stays small beside the layer.
ROWS = 512


def structured(layer: ScaledLayer, pattern: Structured, ablation: Ablation) -> Pruned:
    """Remove whole columns from the ordinary rows, spec (5) and (6). One block loss.

    The scaled weight of the layer is overwritten.
    """
    W, update, metric = layer.weight, ablation.update, ablation.metric
    outliers = outlier_mask(layer, pattern, ablation.outlier_score).flatten()
    rows = _parts(outliers)
    needs_U = update == "sequential" or metric == "obs"
    diagnostics = Diagnostics()
    U = inverse_factor(layer, diagnostics) if needs_U else layer.gram
    removed = smallest(_column_scores(layer, rows, U, metric), pattern.removed(W.shape[1]))[0]

    if update == "joint":
        loss = _joint(layer, rows, removed)
    else:
        loss = _sequential(layer, rows, removed, U)
    mask = removed & ~outliers[:, None]
    return Pruned(layer.restored(W, mask), mask, layer.restored_losses(loss[None]), diagnostics)


def _parts(outliers: Tensor) -> list[Tensor | slice]:
    """The ordinary rows, some at a time: a slice is a view where indices would copy."""
    if not outliers.any():
        return [slice(start, end) for start, end in column_blocks(len(outliers), ROWS)]
    rows = (~outliers).nonzero()[:, 0]
    return [rows[start:end] for start, end in column_blocks(len(rows), ROWS)]


def _column_scores(
    layer: ScaledLayer, rows: list[Tensor | slice], U: Tensor, metric: str
) -> Tensor:
    """The v_j of (5), (1, b), over the ordinary rows."""
    factors = column_factors(layer, U, metric)
    v = torch.zeros_like(layer.weight[:1])
    for part in rows:
        S = scores(layer.weight[part], factors, metric)
        v += (S if metric == "obs" else S.square_()).sum(dim=0)  # obs is a square already
    return v


def _joint(layer: ScaledLayer, rows: list[Tensor | slice], removed: Tensor) -> Tensor:
    """Spec (6) with J = all columns: least squares on the columns F that stay. The loss.

    With the removed columns q moved to the front, M falls into M_qq, M_Fq, M_FF. The optimum has
    E_F = D_q M_Fqᵀ + D_F M_FFᵀ = 0 with D_q = −W_q: one triangular solve gives D_F, no inverse is
    needed, and E_q = D_q M_qqᵀ is all of the loss.
    """
    q, F = removed.nonzero()[:, 0], (~removed).nonzero()[:, 0]
    M = reversed_cholesky(layer, order=torch.cat([q, F]))
    s = len(q)
    loss = torch.zeros((), dtype=torch.float64, device=M.device)
    for part in rows:
        columns = layer.weight[part].T.contiguous()  # rows of it are gathered faster than columns
        W_q = columns[q]
        D_F = torch.linalg.solve_triangular(M[s:, s:], M[s:, :s] @ W_q, upper=False)
        loss += torch.linalg.vector_norm(M[:s, :s] @ W_q, dim=0).double().square().sum()
        columns[q] = 0.0
        columns[F] += D_F
        layer.weight[part] = columns.T
    return loss


def _sequential(
    layer: ScaledLayer, rows: list[Tensor | slice], removed: Tensor, U: Tensor
) -> Tensor:
    """The ablation: the removed columns one after another, the earlier ones frozen. The loss."""
    loss = torch.zeros((), dtype=torch.float64, device=U.device)
    for part in rows:
        W = layer.weight[part]
        for j1, j2 in column_blocks(W.shape[1], SWEEP):
            picks = removed[j1:j2].expand(len(W), -1)
            E = sequential_update(W[:, j1:j2], picks, U[j1:j2, j1:j2])
            W[:, j2:].addmm_(E, U[j1:j2, j2:])
            loss += E.double().square().sum()
        layer.weight[part] = W
    return loss
