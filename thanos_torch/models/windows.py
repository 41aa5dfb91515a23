"""Windows of tokens, cut from a text."""

import hashlib
import platform
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from thanos_torch.models.text import DEFAULT_DATASET, Part, read_text


@dataclass(frozen=True)
class Windows:
    """Windows of a text.

    ids      (windows, seqlen) token ids
    dataset  where the text is from
    part     which part of it
    tokens   length of the whole text
    sha256   of the whole text
    """

    ids: Tensor
    dataset: str
    part: Part
    tokens: int
    sha256: str

    def provenance(self) -> dict[str, Any]:
        """What a report should say of the text, JSON-able."""
        # The default text is part of Python and changes with it.
        name = f"{self.dataset} of Python {platform.python_version()}"
        return {
            "dataset": name if self.dataset == DEFAULT_DATASET else self.dataset,
            "part": self.part,
            "text_tokens": self.tokens,
            "text_sha256": self.sha256,
            "windows": self.ids.shape[0],
            "seqlen": self.ids.shape[1],
        }


def calibration_windows(
    tokenizer: Any, dataset: str, *, nsamples: int, seqlen: int, seed: int
) -> Windows:
    """`nsamples` windows cut at random places, the same for the same `seed`.

    dataset as for `read_text`. Raises ValueError if that is no text or too short for a window.
    """
    _at_least_one("nsamples", nsamples)
    text, ids = _tokenized(tokenizer, dataset, "calibration", seqlen)
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(0, len(ids) - seqlen + 1, (nsamples,), generator=generator)
    windows = torch.stack([ids[start : start + seqlen] for start in starts.tolist()])
    return Windows(windows, dataset, "calibration", len(ids), _sha256(text))


def evaluation_windows(
    tokenizer: Any, dataset: str, *, seqlen: int, limit: int | None = None
) -> Windows:
    """The text cut into windows that do not overlap; what is left at its end is dropped.

    `limit` takes that many windows, evenly spread over the text. dataset and errors as for
    `calibration_windows`.
    """
    text, ids = _tokenized(tokenizer, dataset, "evaluation", seqlen)
    windows = ids[: len(ids) // seqlen * seqlen].view(-1, seqlen)
    if limit is not None and limit < len(windows):
        _at_least_one("max_windows", limit)
        windows = windows[torch.arange(limit) * len(windows) // limit]
    return Windows(windows, dataset, "evaluation", len(ids), _sha256(text))


def check_length(model: nn.Module, windows: Tensor) -> None:
    """Raise ValueError if windows, (windows, seqlen), are longer than the model can read."""
    most = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if most is not None and windows.shape[1] > most:
        raise ValueError(f"seqlen must be at most {most} for this model, got {windows.shape[1]}")


def _tokenized(tokenizer: Any, dataset: str, part: Part, seqlen: int) -> tuple[str, Tensor]:
    _at_least_one("seqlen", seqlen)
    text = read_text(dataset, part)
    # Tokenizers warn of text that is longer than the model's window; it is cut right after.
    ids = torch.tensor(tokenizer(text, verbose=False)["input_ids"], dtype=torch.long)
    if len(ids) < seqlen:
        raise ValueError(
            f"dataset {dataset} has {len(ids)} tokens for {part}, too few for one window of "
            f"seqlen = {seqlen}"
        )
    return text, ids


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _at_least_one(argument: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{argument} must be at least 1, got {value}")
