"""The SparseGPT and Wanda modifiers of llm-compressor: their functions `sparsify_weight`.

The functions get a layer, and the Gram matrix or its diagonal in the place of the statistics that
the modifiers sum up. They compute in float32 throughout. The masks are observed while they set
weights to zero.
"""

import torch
from llmcompressor.modifiers.pruning.sparsegpt.sgpt_sparsify import sparsify_weight as by_sparsegpt
from llmcompressor.modifiers.pruning.wanda.wanda_sparsify import sparsify_weight as by_wanda

from verification.scoreboard.adapters.layer import Given, adapter
from verification.scoreboard.adapters.observed import Zeroed


@adapter("unstructured", "n:m")
def sparsegpt(given: Given) -> tuple[torch.Tensor, torch.Tensor]:
    """Prune as `SparseGPTModifier` does."""
    asked, layer = given.asked, given.layer
    with Zeroed(given.rows) as zeroed:
        _, pruned = by_sparsegpt(
            module=layer,
            hessians_dict={layer: given.gram},
            sparsity=asked.sparsity,
            prune_n=asked.n,
            prune_m=asked.m,
            block_size=given.block_size,
            dampening_frac=given.damping,
            preserve_sparsity_mask=False,
        )
    return pruned, zeroed.mask()


@adapter("unstructured", "n:m")
def wanda(given: Given) -> tuple[torch.Tensor, torch.Tensor]:
    """Prune as `WandaPruningModifier` does."""
    asked, layer = given.asked, given.layer
    with Zeroed(given.rows) as zeroed:
        pruned = by_wanda(
            module=layer,
            row_scalars_dict={layer: given.gram.diagonal().clone()},
            sparsity=asked.sparsity,
            prune_n=asked.n,
            prune_m=asked.m,
        )
    return pruned, zeroed.mask()
