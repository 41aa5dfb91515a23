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

from verification.scoreboard.adapters.layer import array, float32, hessian, linear, options


def _masked(layer: torch.nn.Linear, kept: torch.Tensor) -> tuple[Any, Any]:
    sparse = SparseModule.convert(layer)
    sparse.modify()
    sparse.set_mask(kept)
    return array(sparse.weight), ~kept.numpy()


@float32("2:4")
def magnitude(
    weight: Any,
    gram: Any,
    pattern: str,
    block_size: int,
    damping: float,
    *,
    storage: str | None = None,
) -> tuple[Any, Any]:
    """Prune as the mode `sparse_magnitude` does."""
    layer = linear(weight, storage)
    return _masked(layer, create_asp_mask(layer.weight, f"{pattern} sparsity"))


@float32("2:4")
def sparsegpt(
    weight: Any,
    gram: Any,
    pattern: str,
    block_size: int,
    damping: float,
    *,
    storage: str | None = None,
) -> tuple[Any, Any]:
    """Prune as the mode `sparsegpt` does."""
    asked, layer = options(pattern), linear(weight, storage)
    config = {
        "pattern": f"{asked.n}:{asked.m} sparsity",
        "hessian_damp": damping,
        "col_block_size": block_size,
        "row_block_size": -1,
    }
    return _masked(layer, create_sgpt_mask(layer.weight, hessian(gram), config))
