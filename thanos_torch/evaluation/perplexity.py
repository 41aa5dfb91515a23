"""Measure perplexity on windows of a text."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from thanos_torch.evaluation.meaning import refuse_meaningless
from thanos_torch.network.replay import BATCH_TOKENS
from thanos_torch.runtime.arguments import checked
from thanos_torch.runtime.errors import in_one_line
from thanos_torch.text.windows import check_stride, check_windows


@dataclass(frozen=True)
class Perplexity:
    """The exponential of the mean negative log-likelihood of the scored tokens.

    windows  number of windows
    seqlen   tokens in a window
    stride   tokens from the start of a window to the start of the next
    tokens   how many tokens were scored: in the first window all but the first, in each other one
             the last `stride`, but never a window's first token, which has no context
    window_losses  for each window the mean negative log-likelihood of its scored tokens, in nats,
                   for paired comparisons of two models
    """

    perplexity: float
    windows: int
    seqlen: int
    stride: int
    tokens: int
    window_losses: list[float]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


@checked("windows")
@torch.no_grad()
def perplexity(
    model: nn.Module,
    windows: Tensor,
    progress: Callable[[int, int], None] | None = None,
    *,
    stride: int | None = None,
) -> Perplexity:
    """Measure a causal language model on token ids, (windows, seqlen).

    stride is that of `evaluation_windows`: where windows overlap, a token is scored once, in the
    window that gives it the longest context. The default, seqlen, is the protocol of WikiText-2.
    progress is called with the windows done and their number. Raises ValueError for windows of
    fewer than two tokens, which leave nothing to predict, and if the result is not finite. Also for
    models that look ahead, that have no language-model head, or that need an encoder's output.
    """
    check_windows(model, windows)
    count, seqlen = windows.shape
    if seqlen < 2:
        raise ValueError(f"seqlen must be at least 2, got {seqlen}")
    stride = seqlen if stride is None else stride
    check_stride(stride, seqlen)
    device = next(model.parameters()).device
    loss, tokens, losses = 0.0, 0, list[float]()
    windows = windows.to(device)
    failed = f"{type(model).__name__} cannot run window {{}} of the text"
    refuse_meaningless(model, windows, failed.format(0))
    for batch in windows.split(max(1, BATCH_TOKENS // seqlen)):
        with in_one_line(failed.format(len(losses))):
            logits = model(batch, use_cache=False).logits
        for scores, ids in zip(logits, batch, strict=True):  # one by one: a vocabulary is large
            first = max(1, seqlen - stride) if losses else 1
            of_window = cross_entropy(
                scores[first - 1 : -1].float(), ids[first:], reduction="sum"
            ).item()
            loss += of_window
            tokens += seqlen - first
            losses.append(of_window / (seqlen - first))
        if progress:
            progress(len(losses), count)
    mean = loss / tokens
    if not mean < math.log(torch.finfo(torch.float64).max):
        raise ValueError(f"perplexity is not finite: the mean loss is {mean} nats")
    return Perplexity(math.exp(mean), count, seqlen, stride, tokens, losses)
