"""The Wanda of qk-wanda: `WandaInputAccumulator.score` and `build_pruning_mask`.

The accumulator gets a layer, and the diagonal of the Gram matrix in the place of the sums that it
makes of activations. Counts round down, as `rounding="floor"` documents for the original Wanda.
"""

import torch
from qk_wanda.masks import build_pruning_mask
from qk_wanda.scoring import WandaInputAccumulator

from verification.scoreboard.adapters.layer import Given, adapter


# `prune_model` offers no n:m; the function that it calls does.
@adapter("unstructured", "n:m")
def prune(given: Given) -> tuple[torch.Tensor, torch.Tensor]:
    """Prune as `prune_model` does with the method `wanda`."""
    asked, layer = given.asked, given.layer
    inputs = WandaInputAccumulator(layer)
    inputs.input_energy, inputs.num_sequences = given.gram.diagonal().clone(), 1
    mask = build_pruning_mask(
        inputs.score(), asked.sparsity, prune_n=asked.n, prune_m=asked.m, rounding="floor"
    )
    layer.weight.masked_fill_(mask, 0)
    return layer.weight, mask
