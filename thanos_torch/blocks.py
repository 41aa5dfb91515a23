"""The walk over the blocks of columns that Thanos and SparseGPT share."""

from collections.abc import Callable

import torch
from torch import Tensor

from reference.patterns import column_blocks
from thanos_torch.layer import Layer
from thanos_torch.result import Diagnostics, Pruned

# (current W, (j1, j2), weights removed so far: a tensor, ()) -> mask, E_k: (c, j2 - j1) each; the
# block's columns of W are overwritten
BlockStep = Callable[[Tensor, tuple[int, int], Tensor], tuple[Tensor, Tensor]]


def walk_blocks(
    layer: Layer, U: Tensor, block_size: int, step: BlockStep, diagnostics: Diagnostics
) -> Pruned:
    """Prune block by block, left to right; `step` picks a block's mask and updates it.

    The layer's scaled weight is overwritten: fresh memory of its size is what costs most here.
    Nothing here waits for a device: what depends on the data stays in tensors of fixed shapes.
    """
    W = layer.weight
    c, b = W.shape
    mask = torch.zeros(c, b, dtype=torch.bool, device=W.device)
    losses = []
    removed = torch.zeros((), dtype=torch.int64, device=W.device)
    for j1, j2 in column_blocks(b, block_size):
        block, E = step(W, (j1, j2), removed)
        W[:, j2:].addmm_(E, U[j1:j2, j2:])
        mask[:, j1:j2] = block
        removed += torch.count_nonzero(block)
        # Row by row, for a copy of E in float64 would cost more than the block's update.
        losses.append(torch.linalg.vector_norm(E, dim=1).double().square().sum())
    return Pruned(
        layer.restored(W, mask), mask, layer.restored_losses(torch.stack(losses)), diagnostics
    )
