"""How every layer of a model is pruned and judged."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from reference.patterns import Pattern, refuse_outlier_rows
from thanos_torch import Pruned, magnitude, refit, sparsegpt, thanos, wanda
from thanos_torch.models.layers import Layer
from thanos_torch.models.report import Judge, Verdict

METHODS: dict[str, Callable[..., Pruned]] = {
    "thanos": thanos,
    "magnitude": magnitude,
    "wanda": wanda,
    "sparsegpt": sparsegpt,
}


def check_options(
    pattern: Pattern, *, method: str, block_size: int, damping: float, refit_steps: int
) -> None:
    """Refuse options of `prune_model` that no layer can be pruned with. Raises ValueError."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if method != "thanos":
        refuse_outlier_rows(method, pattern)
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")
    if not 0 < damping < math.inf:
        raise ValueError(f"damping must be positive and finite, got {damping}")
    if refit_steps < 0:
        raise ValueError(f"refit_steps must not be negative, got {refit_steps}")


@dataclass(frozen=True)
class Recipe:
    """The arguments of `prune_model` that every layer shares; explained there."""

    pattern: Pattern
    judge: Judge | None
    method: str
    block_size: int
    damping: float
    refit_steps: int

    def check(self, layers: Mapping[str, Layer]) -> None:
        """Find out before hours of work what would stop it later. Raises ValueError."""
        check_options(
            self.pattern,
            method=self.method,
            block_size=self.block_size,
            damping=self.damping,
            refit_steps=self.refit_steps,
        )
        for name, layer in layers.items():
            try:
                self.pattern.check(*layer.shape, self.block_size)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None

    def prune(self, weight: Tensor, gram: Tensor) -> tuple[Pruned, Pruned]:
        """The method's result, and the result to keep: its refit, or the same again.

        weight (c, b) and gram (b, b), float32 or float64. Raises ValueError.
        """
        pruned = METHODS[self.method](
            weight, gram, self.pattern, block_size=self.block_size, damping=self.damping
        )
        if not self.refit_steps:
            return pruned, pruned
        return pruned, refit(weight, gram, pruned, steps=self.refit_steps, damping=self.damping)

    def verdict(self, weight: Tensor, gram: Tensor, pruned: Pruned, kept: Pruned) -> Verdict | None:
        """What the judge says of a layer and what `prune` made of it; None without a judge."""
        if self.judge is None:
            return None
        return self.judge(
            _numpy(weight),
            _numpy(gram),
            _numpy(pruned.weight),
            self.pattern,
            method=self.method,
            block_size=self.block_size,
            damping=self.damping,
            mask=_numpy(pruned.mask),
            arithmetic=str(weight.dtype).removeprefix("torch."),
            block_losses=_numpy(pruned.block_losses),
            refitted_weight=_numpy(kept.weight) if self.refit_steps else None,
        )


def _numpy(tensor: Tensor) -> Any:
    return tensor.cpu().numpy()
