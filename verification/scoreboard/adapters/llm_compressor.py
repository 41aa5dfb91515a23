"""The SparseGPT and Wanda modifiers of llm-compressor: their functions `sparsify_weight`.

The functions get a layer, and the Gram matrix or its diagonal in the place of the statistics that
the modifiers sum up. They compute in float32 throughout. The masks are observed while they set
weights to zero.
"""

from typing import Any

from llmcompressor.modifiers.pruning.sparsegpt.sgpt_sparsify import sparsify_weight as by_sparsegpt
from llmcompressor.modifiers.pruning.wanda.wanda_sparsify import sparsify_weight as by_wanda

from verification.scoreboard.adapters.layer import array, float32, hessian, linear, options
from verification.scoreboard.adapters.observed import Zeroed


@float32("unstructured", "n:m")
def sparsegpt(
    weight: Any,
    gram: Any,
    pattern: str,
    block_size: int,
    damping: float,
    *,
    storage: str | None = None,
) -> tuple[Any, Any]:
    """Prune as `SparseGPTModifier` does."""
    asked, layer = options(pattern), linear(weight, storage)
    with Zeroed(len(weight)) as zeroed:
        _, pruned = by_sparsegpt(
            module=layer,
            hessians_dict={layer: hessian(gram)},
            sparsity=asked.sparsity,
            prune_n=asked.n,
            prune_m=asked.m,
            block_size=block_size,
            dampening_frac=damping,
            preserve_sparsity_mask=False,
        )
    return array(pruned), zeroed.mask().numpy()


@float32("unstructured", "n:m")
def wanda(
    weight: Any,
    gram: Any,
    pattern: str,
    block_size: int,
    damping: float,
    *,
    storage: str | None = None,
) -> tuple[Any, Any]:
    """Prune as `WandaPruningModifier` does."""
    asked, layer = options(pattern), linear(weight, storage)
    with Zeroed(len(weight)) as zeroed:
        pruned = by_wanda(
            module=layer,
            row_scalars_dict={layer: hessian(gram).diagonal().clone()},
            sparsity=asked.sparsity,
            prune_n=asked.n,
            prune_m=asked.m,
        )
    return array(pruned), zeroed.mask().numpy()
