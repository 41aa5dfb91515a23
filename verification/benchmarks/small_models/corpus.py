"""What the small models learn from, and what they are measured on: two texts that share nothing."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thanos_torch.models.text import SEPARATOR, Text, read_text

END = "<|endoftext|>"
LONG = 100  # characters; shorter paragraphs, such as headings, are the same in many texts
MOST_OVERLAP = 0.01  # of the held-out text's characters, in paragraphs that were learned from


@dataclass(frozen=True)
class Texts:
    """A training text, and a held-out one as `evaluation_windows` reads it.

    *origin  by name and content: where a text lies is the machine's own affair
    overlap  share of the held-out characters that stand in long paragraphs of the training text
    """

    training: str
    origins: tuple[dict[str, Any], ...]
    held_out: str
    held_out_origin: dict[str, Any]
    overlap: float


def read_texts(data: Sequence[str], held_out: str | None = None) -> Texts:
    """The calibration parts of `data`, one after the other, and the evaluation part of `held_out`.

    data      texts as for `read_text`
    held_out  another one; by default the first of `data`, if that has two parts

    Raises ValueError if there are none, or if the held-out text was learned from.
    """
    if not data:
        raise ValueError("data must name at least one text, got none")
    if held_out is None:
        if Path(data[0]).is_file():
            raise ValueError(f"held_out must name a text, as {data[0]} is one file for all parts")
        held_out = data[0]
    parts = [read_text(name, "calibration") for name in data]
    training = SEPARATOR.join(part.text for part in parts)
    measured = read_text(held_out, "evaluation")
    overlap = _overlap(training, measured)
    if overlap > MOST_OVERLAP:
        raise ValueError(
            f"held_out must be a text apart from data, but {overlap:.0%} of {held_out} is in it"
        )
    origins = tuple(map(_origin, parts))
    return Texts(training, origins, held_out, _origin(measured), overlap)


def train_tokenizer(text: str, words: int) -> Any:
    """A byte-level BPE tokenizer with `words` tokens, learned from a text; token 0 is END."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=words,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text.split(SEPARATOR), trainer)
    build: Any = PreTrainedTokenizerFast  # whose methods lack type hints
    return build(tokenizer_object=tokenizer, eos_token=END, bos_token=END)


def unigram_perplexity(training: Tensor, windows: Tensor, words: int) -> float:
    """Of a model that knows how often each token occurs, and nothing else.

    training  (tokens) to count, each token once more than it occurs, so that none is impossible
    windows   (windows, seqlen); scored as `perplexity` does: all but the first of each window
    """
    counts = torch.bincount(training, minlength=words).double() + 1
    losses = -(counts / counts.sum()).log()
    return math.exp(losses[windows[:, 1:]].mean())


def _origin(text: Text) -> dict[str, Any]:
    named = str(text.origin["dataset"])
    named = Path(named).name if Path(named).exists() else named
    sha256 = hashlib.sha256(text.text.encode()).hexdigest()
    return {**text.origin, "dataset": named, "characters": len(text.text), "text_sha256": sha256}


def _overlap(training: str, held_out: Text) -> float:
    known = {" ".join(paragraph.split()) for paragraph in _paragraphs(training)}
    seen = [len(part) for part in _paragraphs(held_out.text) if " ".join(part.split()) in known]
    return sum(seen) / max(1, len(held_out.text))


def _paragraphs(text: str) -> list[str]:
    return [part for part in text.split("\n") if len(part) >= LONG]
