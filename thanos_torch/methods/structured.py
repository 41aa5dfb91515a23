"""Structured pruning with outlier rows: one block, one set of columns for all rows. Spec (5)."""

import torch
from torch import Tensor

from reference.patterns import Ablation, Structured, column_blocks
from thanos_torch.methods.devices import on_host
from thanos_torch.methods.factor import FactorCache, reversed_cholesky
from thanos_torch.methods.masks import Candidates, column_factors, outlier_mask, smallest
from thanos_torch.methods.problem import ScaledLayer
from thanos_torch.methods.result import Diagnostics, Pruned
from thanos_torch.methods.update import sequential_update

# Columns that the sequential ablation sweeps before it moves all those behind them.
SWEEP = 128
# Rows that are pruned at one time, so that temporaries stay small beside the layer.
ROWS = 512


def structured(
    layer: ScaledLayer, pattern: Structured, ablation: Ablation, factors: FactorCache
) -> Pruned:
    """Remove whole columns from the ordinary rows, spec (5) and (6). One block loss.

    layer    checked against the pattern
    factors  used by the ablations alone: `_joint` needs no inverse
    """
    W, sequential = layer.scaled_weight(), ablation.update == "sequential"
    outliers = outlier_mask(layer, W, pattern, ablation.outlier_score).flatten()
    rows = _parts(outliers, pattern.outliers(len(W)))
    factor = factors.of(layer) if sequential or ablation.metric == "obs" else None
    known = Candidates(W, column_factors(layer, ablation.metric, factor), ablation.metric)
    removed = smallest(_column_scores(known, rows), pattern.removed(W.shape[1]))[0]

    if factor and sequential:
        loss = _sequential(W, rows, removed, factor.U)
    else:
        loss = _joint(layer, W, rows, removed, pattern.removed(W.shape[1]))
    mask = removed & ~outliers[:, None]
    diagnostics = Diagnostics(factor.arithmetic) if factor else Diagnostics()
    return layer.pruned(W, mask, loss[None], diagnostics)


def _parts(outliers: Tensor, count: int) -> list[Tensor | slice]:
    """The ordinary rows, some at a time; slices where possible, which are views without a copy.

    outliers  (c,), bool, True for `count` rows
    """
    at_once = ROWS if on_host(outliers) else len(outliers)
    if not count:
        return [slice(start, end) for start, end in column_blocks(len(outliers), at_once)]
    rows = _true_first(~outliers)[: len(outliers) - count]
    return [rows[start:end] for start, end in column_blocks(len(rows), at_once)]


def _true_first(mask: Tensor) -> Tensor:
    """The indices of a flat mask, those of True first, both in order."""
    # A sort, because the length of what `nonzero` gives makes a device wait.
    return (~mask).byte().argsort(stable=True)


def _column_scores(candidates: Candidates, rows: list[Tensor | slice]) -> Tensor:
    """The v_j of (5), (1, b), over the ordinary rows."""
    v = torch.zeros_like(candidates.weight[:1])
    for part in rows:
        S = candidates.rows(part).scores()
        # An "obs" score is a square already.
        v += (S if candidates.metric == "obs" else S.square_()).sum(dim=0)
    return v


def _joint(
    layer: ScaledLayer, W: Tensor, rows: list[Tensor | slice], removed: Tensor, s: int
) -> Tensor:
    """Spec (6) with J = all columns: least squares on the columns F that stay. The loss.

    With the removed columns q moved to the front, M falls into M_qq, M_Fq, M_FF. The optimum has
    E_F = D_q M_Fqᵀ + D_F M_FFᵀ = 0 with D_q = −W_q. So one triangular solve gives D_F, without an
    inverse, and E_q = D_q M_qqᵀ is all of the loss. The rows of W are overwritten.
    """
    order = _true_first(removed)
    q, F = order[:s], order[s:]
    M = reversed_cholesky(layer, order)
    loss = torch.zeros((), dtype=torch.float64, device=M.device)
    for part in rows:
        columns = W[part].T.contiguous()  # gathering rows is faster than gathering columns
        W_q = columns[q]
        D_F = torch.linalg.solve_triangular(M[s:, s:], M[s:, :s] @ W_q, upper=False)
        loss += torch.linalg.vector_norm(M[:s, :s] @ W_q, dim=0).double().square().sum()
        columns[q] = 0.0
        columns[F] += D_F
        W[part] = columns.T
    return loss


def _sequential(W: Tensor, rows: list[Tensor | slice], removed: Tensor, U: Tensor) -> Tensor:
    """The ablation: the removed columns one after another, the earlier ones frozen. The loss.

    The rows of W are overwritten.
    """
    loss = torch.zeros((), dtype=torch.float64, device=U.device)
    for part in rows:
        current = W[part]
        for j1, j2 in column_blocks(W.shape[1], SWEEP):
            picks = removed[j1:j2].expand(len(current), -1)
            E = sequential_update(current[:, j1:j2], picks, U[j1:j2, j1:j2])
            current[:, j2:].addmm_(E, U[j1:j2, j2:])
            loss += E.double().square().sum()
        W[part] = current
    return loss
