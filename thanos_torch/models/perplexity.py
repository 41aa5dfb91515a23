"""Perplexity on windows that do not overlap."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from thanos_torch.models.calibration import batches


@dataclass(frozen=True)
class Perplexity:
    """exp of the mean negative log-likelihood of every token but each window's first.

    windows  number of windows, next to each other (stride = seqlen)
    seqlen   tokens in a window
    """

    perplexity: float
    windows: int
    seqlen: int


@torch.no_grad()
def perplexity(
    model: Any, windows: Tensor, progress: Callable[[int, int], None] | None = None
) -> Perplexity:
    """Measure a causal language model on token ids, (windows, seqlen).

    progress is called with the windows done and their number. Raises ValueError for windows of
    fewer than two tokens, which leave nothing to predict.
    """
    count, seqlen = windows.shape
    if seqlen < 2:
        raise ValueError(f"seqlen must be at least 2, got {seqlen}")
    device = next(model.parameters()).device
    loss, done = 0.0, 0
    for batch in batches(windows):
        ids = batch.to(device)
        logits = model(ids, use_cache=False).logits[:, :-1]
        loss += cross_entropy(
            logits.reshape(-1, logits.shape[-1]).float(), ids[:, 1:].reshape(-1), reduction="sum"
        ).item()
        done += len(batch)
        if progress:
            progress(done, count)
    mean = loss / (count * (seqlen - 1))
    # exp overflows at 709 nats: such a model knows nothing, which infinity says.
    return Perplexity(math.exp(mean) if mean < 700 else math.inf, count, seqlen)
