"""Magnitude and SparseGPT pruning of NVIDIA's Model Optimizer: its choice of masks.

`create_asp_mask` and `create_sgpt_mask` get a weight, and the Gram matrix in the place of the one
that the searcher sums up. The pruned weight is the product of weight and mask, by `SparseModule`:
kept weights do not move, also in SparseGPT, because the product is meant to be trained further.
Only 2:4 is supported. The searchers skip layers whose sizes are no multiples of 4, 8 or 16, which
is no rule of the methods; the adapter calls the functions behind that check.
"""

from typing import Any

import torch
from modelopt.torch.sparsity.weight_sparsity.magnitude import create_asp_mask
from modelopt.torch.sparsity.weight_sparsity.module import SparseModule
from modelopt.torch.sparsity.weight_sparsity.sparsegpt import create_sgpt_mask

from verification.scoreboard.adapters.layer import Given, adapter


def _masked(layer: torch.nn.Linear, kept: torch.Tensor) -> tuple[Any, Any]:
    sparse = SparseModule.convert(layer)
    sparse.modify()
    sparse.set_mask(kept)
    return sparse.weight, ~kept


@adapter("2:4")
def magnitude(given: Given) -> tuple[torch.Tensor, torch.Tensor]:
    """Prune as the mode `sparse_magnitude` does."""
    kept = create_asp_mask(given.layer.weight, f"{given.pattern} sparsity")
    return _masked(given.layer, kept)


@adapter("2:4")
def sparsegpt(given: Given) -> tuple[torch.Tensor, torch.Tensor]:
    """Prune as the mode `sparsegpt` does."""
    asked, layer = given.asked, given.layer
    config = {
        "pattern": f"{asked.n}:{asked.m} sparsity",
        "hessian_damp": given.damping,
        "col_block_size": given.block_size,
        "row_block_size": -1,
    }
    return _masked(layer, create_sgpt_mask(layer.weight, given.gram, config))
