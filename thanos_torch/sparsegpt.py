"""SparseGPT under the same interface. Spec section 6."""

import torch
from torch import Tensor

from reference.patterns import Pattern, SemiStructured, Unstructured, refuse_outlier_rows
from thanos_torch.blocks import walk_blocks
from thanos_torch.factor import inverse_factor
from thanos_torch.layer import prepare
from thanos_torch.precision import full_precision
from thanos_torch.result import Diagnostics, Pruned
from thanos_torch.selection import smallest
from thanos_torch.update import choosing_sequential_update, sequential_update
from thanos_torch.zeroing import whole_columns


@torch.no_grad()
@full_precision()
def sparsegpt(
    weight: Tensor,
    gram: Tensor,
    pattern: Pattern,
    *,
    block_size: int = 128,
    damping: float = 0.01,
) -> Pruned:
    """Column by column: choose, zero, make up. Frantar and Alistarh, arXiv 2301.00774.

    Arguments and errors as for `thanos`. Refuses outlier rows.
    """
    refuse_outlier_rows("sparsegpt", pattern)
    layer = prepare(weight, gram, pattern, block_size, damping)
    diagnostics = Diagnostics()
    U = inverse_factor(layer, diagnostics)

    def step(W: Tensor, block: tuple[int, int], _: Tensor) -> tuple[Tensor, Tensor]:
        j1, j2 = block
        W_k, U_kk = W[:, j1:j2], U[j1:j2, j1:j2]
        if isinstance(pattern, SemiStructured):
            E, mask = choosing_sequential_update(W_k, U_kk, pattern.n, pattern.m)
            return mask, E
        score = (W_k / U_kk.diagonal()).square()
        if isinstance(pattern, Unstructured):
            c = len(W)
            mask = smallest(score, pattern.removed(c * j2) - pattern.removed(c * j1))
        else:
            mask = whole_columns(score, pattern.removed(j2) - pattern.removed(j1))
        return mask, sequential_update(W_k, mask, U_kk)

    return walk_blocks(layer, U, block_size, step, diagnostics)
