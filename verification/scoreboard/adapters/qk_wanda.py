"""The Wanda of qk-wanda: `WandaInputAccumulator.score` and `build_pruning_mask`.

The accumulator gets a layer, and the diagonal of the Gram matrix in the place of the sums that it
makes of activations. Counts round down, as `rounding="floor"` documents for the original Wanda.
"""

from typing import Any

from qk_wanda.masks import build_pruning_mask
from qk_wanda.scoring import WandaInputAccumulator

from verification.scoreboard.adapters.layer import array, float32, hessian, linear, options


# `prune_model` offers no n:m; the function that it calls does.
@float32("unstructured", "n:m")
def prune(
    weight: Any,
    gram: Any,
    pattern: str,
    block_size: int,
    damping: float,
    *,
    storage: str | None = None,
) -> tuple[Any, Any]:
    """Prune as `prune_model` does with the method `wanda`."""
    asked, layer = options(pattern), linear(weight, storage)
    inputs = WandaInputAccumulator(layer)
    inputs.input_energy, inputs.num_sequences = hessian(gram).diagonal().clone(), 1
    mask = build_pruning_mask(
        inputs.score(), asked.sparsity, prune_n=asked.n, prune_m=asked.m, rounding="floor"
    )
    layer.weight.masked_fill_(mask, 0)
    return array(layer.weight), mask.numpy()
