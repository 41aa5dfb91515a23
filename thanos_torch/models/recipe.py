"""How one layer is pruned and judged."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from reference.patterns import Ablation, Pattern, refuse_outlier_rows, refuse_switches
from thanos_torch import Pruned, magnitude, refit, sparsegpt, thanos, wanda
from thanos_torch.models.report import Judge, Verdict

PAPER = Ablation()
METHODS: dict[str, Callable[..., Pruned]] = {
    "thanos": thanos,
    "magnitude": magnitude,
    "wanda": wanda,
    "sparsegpt": sparsegpt,
}


@dataclass(frozen=True)
class LayerOptions:
    """What is asked for a layer; explained at `prune_model`."""

    pattern: Pattern
    method: str = "thanos"
    block_size: int = 128
    damping: float = 0.01
    refit_steps: int = 0
    ablation: Ablation = PAPER

    def check(self) -> None:
        """Refuse what no layer can be pruned with. Raises ValueError."""
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        if self.method != "thanos":
            refuse_outlier_rows(self.method, self.pattern)
            refuse_switches(self.method, self.ablation)
        self.ablation.check()
        if self.block_size < 1:
            raise ValueError(f"block_size must be at least 1, got {self.block_size}")
        if not 0 < self.damping < math.inf:
            raise ValueError(f"damping must be positive and finite, got {self.damping}")
        if self.refit_steps < 0:
            raise ValueError(f"refit_steps must not be negative, got {self.refit_steps}")

    def check_layer(self, name: str, shape: tuple[int, int]) -> None:
        """Refuse a layer, (c, b), that the pattern does not fit. Raises ValueError, naming it."""
        try:
            self.pattern.check(*shape, self.block_size)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; the pattern in its text form, and of the switches those that are changed."""
        changed = self.ablation.changed()
        plain = {name: value for name, value in vars(self).items() if name != "ablation"}
        return {
            **plain,
            "pattern": str(self.pattern),
            **({"ablation": changed} if changed else {}),
        }

    def described(self) -> str:
        """Method, pattern and changed switches, for people."""
        return ", ".join([self.method, str(self.pattern), *switch_words(self.ablation.changed())])

    def in_full(self) -> str:
        """All that was asked for, for people."""
        plain = f"{self.method}, {self.pattern}, block size {self.block_size}"
        refit = [f"refit {self.refit_steps} steps"] if self.refit_steps else []
        words = switch_words(self.ablation.changed())
        return ", ".join([plain, f"damping {self.damping:g}", *refit, *words])

    def prune(self, weight: Tensor, gram: Tensor) -> tuple[Pruned, Pruned]:
        """The method's result, and the result to keep: its refit, or the same again.

        weight (c, b) and gram (b, b), float32 or float64. Raises ValueError.
        """
        pruned = METHODS[self.method](
            weight,
            gram,
            self.pattern,
            block_size=self.block_size,
            damping=self.damping,
            **self.ablation.changed(),
        )
        if not self.refit_steps:
            return pruned, pruned
        return pruned, refit(weight, gram, pruned, steps=self.refit_steps, damping=self.damping)

    def verdict(
        self, judge: Judge | None, weight: Tensor, gram: Tensor, pruned: Pruned, kept: Pruned
    ) -> Verdict | None:
        """What the judge says of a layer and what `prune` made of it; None without a judge."""
        if judge is None:
            return None
        return judge(
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
            **self.ablation.changed(),
        )


def switch_words(changed: Mapping[str, object]) -> list[str]:
    """Switches in their text form, as `thanos prune --ablation` reads it: `adaptive=false`."""
    return [f"{name}={str(value).lower()}" for name, value in changed.items()]


def _numpy(tensor: Tensor) -> Any:
    return tensor.cpu().numpy()
