"""Measure perplexity on windows of a text."""

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from thanos_torch.evaluation.meaning import refuse_meaningless
from thanos_torch.network.replay import BATCH_TOKENS, replaced
from thanos_torch.runtime.arguments import checked
from thanos_torch.runtime.errors import in_one_line
from thanos_torch.text.bos import warn_lacking_bos
from thanos_torch.text.padding import EqualWindows, of_text_config, real_windows
from thanos_torch.text.windows import check_stride

# Bytes of a batch's logits in float32 up to which all are computed at once. A batch with more, as
# of models with 262,144 words, has them a part at a time.
MOST_LOGITS, PART_OF_LOGITS = 2**29, 2**27


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


@checked("windows", "attention_mask")
@torch.no_grad()
def perplexity(
    model: nn.Module,
    windows: Tensor,
    progress: Callable[[int, int], None] | None = None,
    *,
    stride: int | None = None,
    attention_mask: Tensor | None = None,
) -> Perplexity:
    """Measure a causal language model on token ids, (windows, seqlen).

    stride          that of `evaluation_windows`: where windows overlap, a token is scored once, in
                    the window that gives it the longest context. The default, seqlen, is the
                    protocol of WikiText-2
    progress        called with the windows done and their number
    attention_mask  (windows, seqlen) for windows that are padded before or behind their tokens: 1
                    or True for tokens, 0 or False for padding, which is neither read nor scored.
                    Such windows have no stride

    Raises ValueError for windows of fewer than two tokens, which leave nothing to predict, and if
    the result is not finite. Also for models that look ahead, that have no language-model head, or
    that need an encoder's output.
    """
    groups = real_windows(model, windows, attention_mask)
    count, seqlen = windows.shape
    if stride is not None and attention_mask is not None:
        raise ValueError(f"stride must not be given with an attention_mask, got {stride}")
    stride = seqlen if stride is None else stride
    _refuse_single_tokens(groups[-1], padded=attention_mask is not None)  # the longest come first
    check_stride(stride, seqlen)
    warn_lacking_bos(model, [group.ids for group in groups])
    longest = groups[0].ids.to(next(model.parameters()).device)
    refuse_meaningless(model, longest, _failed(model, groups[0].numbers))
    scored: dict[int, tuple[float, int]] = {}  # loss and tokens of each window
    for numbers, ids in _batches(groups):
        scored |= zip(numbers, _scored(model, ids, numbers, stride), strict=True)
        if progress:
            progress(len(scored), count)
    loss, tokens, losses = 0.0, 0, list[float]()
    for of_window, length in (scored[number] for number in range(count)):
        loss += of_window
        tokens += length
        losses.append(of_window / length)
    mean = loss / tokens
    if not mean < math.log(torch.finfo(torch.float64).max):
        raise ValueError(f"perplexity is not finite: the mean loss is {mean} nats")
    return Perplexity(math.exp(mean), count, seqlen, stride, tokens, losses)


def _refuse_single_tokens(shortest: EqualWindows, *, padded: bool) -> None:
    length = shortest.ids.shape[1]
    if length < 2 and padded:
        number = shortest.numbers[0]
        raise ValueError(f"attention_mask must leave at least 2 tokens, and window {number} has 1")
    if length < 2:
        raise ValueError(f"seqlen must be at least 2, got {length}")


def _failed(model: nn.Module, numbers: list[int]) -> str:
    return f"{type(model).__name__} cannot run window {numbers[0]} of the text"


def _batches(groups: list[EqualWindows]) -> Iterator[tuple[list[int], Tensor]]:
    """Windows of one length that run at one time, and their numbers."""
    for group in groups:
        rows = max(1, BATCH_TOKENS // group.ids.shape[1])
        for first in range(0, len(group.ids), rows):
            yield group.numbers[first : first + rows], group.ids[first : first + rows]


def _scored(
    model: nn.Module, batch: Tensor, numbers: list[int], stride: int
) -> Iterator[tuple[float, int]]:
    """The sum of losses and the number of scored tokens, for each window of a batch."""
    batch = batch.to(next(model.parameters()).device)
    length = batch.shape[1]
    # The first token that is scored in each window.
    firsts = [max(1, length - stride) if number else 1 for number in numbers]
    losses = [0.0] * len(numbers)
    with in_one_line(_failed(model, numbers)):
        for start, logits in _logits(model, batch):
            for row, (scores, ids, first) in enumerate(zip(logits, batch, firsts, strict=True)):
                # One by one, because a vocabulary is large. A token's scores are those before it.
                wanted = ids[max(first, start + 1) : start + 1 + len(scores)]
                scores = scores[max(0, first - 1 - start) :][: len(wanted)]
                losses[row] += cross_entropy(scores.float(), wanted, reduction="sum").item()
    yield from ((loss, length - first) for loss, first in zip(losses, firsts, strict=True))


def _logits(model: nn.Module, batch: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The logits for a batch, (windows, tokens, words), in parts, each with its first token.

    In several parts if all would take too much memory, and if the model can give logits for some
    tokens alone. Then the output of its body, all but the head, is computed once and kept.
    """
    windows, length = batch.shape
    words = of_text_config(model, "vocab_size") or 0
    of_token = 4 * windows * words
    body = getattr(model, getattr(model, "base_model_prefix", None) or "", None)
    apart = "logits_to_keep" in inspect.signature(model.forward).parameters
    if of_token * length <= MOST_LOGITS or not apart or not isinstance(body, nn.Module):
        yield 0, model(batch, use_cache=False).logits
        return
    with replaced({body: _once(body.forward)}):
        for tokens in torch.arange(length, device=batch.device).split(
            max(1, PART_OF_LOGITS // of_token)
        ):
            logits = model(batch, use_cache=False, logits_to_keep=tokens).logits
            yield int(tokens[0]), logits


def _once(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that runs at its first call, and returns what it returned then ever after."""
    kept: list[Any] = []

    def call(*args: Any, **kwargs: Any) -> Any:
        if not kept:
            kept.append(function(*args, **kwargs))
        return kept[0]

    return call
