"""Perplexity on windows that do not overlap."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from thanos_torch.models.replay import BATCH_TOKENS
from thanos_torch.models.windows import check_length


@dataclass(frozen=True)
class Perplexity:
    """exp of the mean negative log-likelihood of every token but each window's first.

    windows  number of windows
    seqlen   tokens in a window
    tokens   tokens predicted, windows * (seqlen - 1)
    """

    perplexity: float
    windows: int
    seqlen: int
    tokens: int

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


@torch.no_grad()
def perplexity(
    model: Any, windows: Tensor, progress: Callable[[int, int], None] | None = None
) -> Perplexity:
    """Measure a causal language model on token ids, (windows, seqlen).

    progress is called with the windows done and their number. Raises ValueError for windows of
    fewer than two tokens, which leave nothing to predict, and if the result is not finite.
    """
    count, seqlen = windows.shape
    if seqlen < 2:
        raise ValueError(f"seqlen must be at least 2, got {seqlen}")
    check_length(model, windows)
    device = next(model.parameters()).device
    loss, done = 0.0, 0
    for batch in windows.to(device).split(max(1, BATCH_TOKENS // seqlen)):
        logits = model(batch, use_cache=False).logits
        for scores, ids in zip(logits, batch, strict=True):  # one by one: a vocabulary is large
            loss += cross_entropy(scores[:-1].float(), ids[1:], reduction="sum").item()
        done += len(batch)
        if progress:
            progress(done, count)
    tokens = count * (seqlen - 1)
    mean = loss / tokens
    if not mean < math.log(torch.finfo(torch.float64).max):
        raise ValueError(f"perplexity is not finite: the mean loss is {mean} nats")
    return Perplexity(math.exp(mean), count, seqlen, tokens)
