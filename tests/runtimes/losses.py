"""Losses of single tokens, the rounding that 16-bit floats cause in them, and what is within it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

Losses = NDArray[np.float64]  # (windows, tokens - 1), in nats

# Two computations that round in different places: each is off by the rounding noise.
MOST_NOISE = 2.0
# Standard errors of the mean difference: beyond them it is not noise but a bias.
MOST_ERRORS = 4.0


@dataclass(frozen=True)
class OurLosses:
    """A model's losses, as `thanos eval` has them, and with 16-bit floats.

    whole    weights and arithmetic in float32
    weights  matrices rounded to float16, which a GGUF file in F16 stores
    both     also what every linear layer reads is rounded to float16
    """

    whole: Losses
    weights: Losses
    both: Losses

    @property
    def noise(self) -> float:
        """Root mean square of what rounding the layers' inputs changes in a token's loss."""
        return _root_mean_square(self.both - self.weights)


@dataclass(frozen=True)
class Agreement:
    """Losses of a runtime, against ours with the same weights in 16 bits.

    difference  root mean square over all tokens
    limit       the largest that passes
    bias        absolute mean difference in standard errors of that mean
    """

    difference: float
    limit: float
    bias: float

    @classmethod
    def of(cls, theirs: Losses, ours: OurLosses) -> "Agreement":
        """Compare two sets of losses of the same tokens."""
        moved = theirs - ours.weights
        bias = abs(moved.mean()) / (moved.std(ddof=1) / np.sqrt(moved.size))
        return cls(_root_mean_square(moved), MOST_NOISE * ours.noise, float(bias))

    @property
    def right(self) -> bool:
        """Whether the differences are rounding, without a bias."""
        return self.difference <= self.limit and self.bias <= MOST_ERRORS


def our_losses(model: Any, windows: Tensor) -> OurLosses:
    """Measure a model on token ids, (windows, seqlen). Its matrices are in float16 afterwards."""
    whole = _token_losses(model, windows)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(parameter.half())
    weights = _token_losses(model, windows)
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs: (inputs[0].half().float(),))
        for layer in model.modules()
        if isinstance(layer, nn.Linear)
    ]
    both = _token_losses(model, windows)
    for hook in hooks:
        hook.remove()
    return OurLosses(whole, weights, both)


@torch.no_grad()
def _token_losses(model: Any, windows: Tensor) -> Losses:
    losses = []
    for ids in windows:
        logits = model(ids[None], use_cache=False).logits[0, :-1].double()
        losses.append(cross_entropy(logits, ids[1:], reduction="none").numpy())
    return np.stack(losses)


def _root_mean_square(values: Losses) -> float:
    return float(np.sqrt((values**2).mean()))
