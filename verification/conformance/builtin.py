"""The reference under the interface of implementations: `thanos verify reference`."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

import reference as implementations
from verification.conformance.capabilities import METHODS
from verification.conformance.storage import stored


def adapted(package: ModuleType) -> Callable[..., Any]:
    """The pruning functions of a package like `reference` as one function to be judged."""

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
        """Prune in float64 and round the result to the type of `weight`."""
        pruned = getattr(package, method)(
            weight, gram, package.parse_pattern(pattern), block_size=block_size, damping=damping
        )
        rounded = stored(pruned.weight, storage or str(np.asarray(weight).dtype))
        return rounded, pruned.mask, pruned.block_losses

    # docs/conformance.md explains these declarations.
    prune.methods = METHODS  # type: ignore[attr-defined]
    prune.dtypes = ("float64", "float32")  # type: ignore[attr-defined]
    prune.storage = ("float16", "bfloat16")  # type: ignore[attr-defined]
    prune.refusals = True  # type: ignore[attr-defined]
    prune.arithmetic = "float64"  # type: ignore[attr-defined]
    return prune


reference = adapted(implementations)
