"""The reference, under the interface of everybody else's."""

from typing import Any

import numpy as np

import reference as implementations
from reference.patterns import parse_pattern
from verification.conformance.storage import stored


def reference(
    weight: Any,
    gram: Any,
    pattern: str,
    block_size: int,
    damping: float,
    *,
    method: str = "thanos",
    storage: str | None = None,
) -> tuple[Any, Any, Any]:
    """Prune with `reference`: float64 inside, the result rounded to the type of `weight`."""
    pruned = getattr(implementations, method)(
        weight, gram, parse_pattern(pattern), block_size=block_size, damping=damping
    )
    rounded = stored(pruned.weight, storage or str(np.asarray(weight).dtype))
    return rounded, pruned.mask, pruned.block_losses


# What docs/conformance.md explains.
reference.methods = ("thanos", "magnitude", "wanda", "sparsegpt")  # type: ignore[attr-defined]
reference.dtypes = ("float64", "float32")  # type: ignore[attr-defined]
reference.storage = ("float16", "bfloat16")  # type: ignore[attr-defined]
reference.refusals = True  # type: ignore[attr-defined]
reference.arithmetic = "float64"  # type: ignore[attr-defined]
