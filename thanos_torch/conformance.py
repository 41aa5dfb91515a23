"""The methods of `thanos_torch` as one function that `thanos verify torch` can judge."""

from typing import Any

import torch

import thanos_torch
from reference.patterns import parse_pattern


def prune(
    weight: Any,
    gram: Any,
    pattern: str,
    block_size: int,
    damping: float,
    *,
    method: str = "thanos",
    storage: str | None = None,
) -> tuple[Any, Any, Any]:
    """Prune NumPy matrices with `thanos_torch`, in their own type; half precision in float32."""
    W, G = (torch.from_numpy(matrix.copy()) for matrix in (weight, gram))
    pruned = getattr(thanos_torch, method)(
        W.float() if storage else W,
        G,
        parse_pattern(pattern),
        block_size=block_size,
        damping=damping,
    )
    kept = pruned.weight
    if storage:
        kept = kept.to(getattr(torch, storage))
    if storage == "bfloat16":  # NumPy lacks this type
        kept = kept.float()
    return kept.numpy(), pruned.mask.numpy(), pruned.block_losses.numpy()


# What the function can do; docs/conformance.md explains these attributes.
prune.methods = ("thanos", "magnitude", "wanda", "sparsegpt")  # type: ignore[attr-defined]
prune.dtypes = ("float64", "float32")  # type: ignore[attr-defined]
prune.storage = ("float16", "bfloat16")  # type: ignore[attr-defined]
prune.refusals = True  # type: ignore[attr-defined]
