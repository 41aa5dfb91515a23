"""Windows of token ids, cut from a text or read from a file."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from thanos_torch.runtime.arguments import checked
from thanos_torch.runtime.errors import reason_of
from thanos_torch.text.bos import Bos, chosen_bos, encode
from thanos_torch.text.chat import Chat
from thanos_torch.text.sources import TOKEN_SUFFIXES, Part, read_text, refuse_missing

MOST_TOKENS = 2**28  # for calibration: 2 GiB of ids, and a thousand times as much of activations


def read_tokens(path: Path) -> Tensor:
    """Read the token ids of an .npy file, or of the one tensor in a .safetensors file, as int64.

    Their shape is (tokens) or (windows, seqlen). Raises ValueError for any other content, pickled
    objects included.
    """
    array = _array(path)
    if array.dtype.kind not in "iu":
        raise ValueError(f"dataset {path} must hold integers, got {array.dtype}")
    if array.ndim not in (1, 2) or not array.size:
        raise ValueError(
            f"dataset {path} must have the shape (tokens) or (windows, seqlen), got {array.shape}"
        )
    for extreme in (array.min(), array.max()):
        if not 0 <= extreme <= numpy.iinfo(numpy.int32).max:
            raise ValueError(f"dataset {path} must hold token ids, got {extreme}")
    return torch.from_numpy(array.astype(numpy.int64))


# What NumPy raises for files that are no arrays, or whose shape is larger than any memory.
_SPOILED = (
    *(ValueError, EOFError, KeyError, TypeError, AttributeError),
    *(OverflowError, MemoryError, SyntaxError),
)


def _array(path: Path) -> numpy.ndarray:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as stream:
                return numpy.lib.format.read_array(stream, allow_pickle=False)
        tensors = load_file(path)
    except (*_SPOILED, SafetensorError) as error:
        raise ValueError(f"dataset {path} holds no token ids: {reason_of(error)}") from error
    if len(tensors) != 1:
        raise ValueError(f"dataset {path} must hold one tensor, got {sorted(tensors)}")
    return next(iter(tensors.values()))


@dataclass(frozen=True)
class Windows:
    """Windows of a text.

    ids     token ids, (windows, seqlen)
    origin  which text it is and how it was cut, JSON-able
    """

    ids: Tensor
    origin: dict[str, Any]

    def provenance(self) -> dict[str, Any]:
        """The text and its windows for a report, JSON-able."""
        return {
            **self.origin,
            "windows": self.ids.shape[0],
            "seqlen": self.ids.shape[1],
            "windows_sha256": _sha256(self.ids),
        }


@dataclass(frozen=True)
class _Tokens:
    """The token ids of a data set, from which windows are taken.

    ids     (tokens) of a text, or (windows, seqlen) of a file that holds windows
    origin  as of `Windows`
    first   the BOS token that every window of a text begins with; None: they are pieces of the text
    """

    ids: Tensor
    origin: dict[str, Any]
    first: int | None = None

    def of_text(self, seqlen: int) -> int:
        """How many tokens of the text a window has, the BOS token in front left out."""
        return seqlen if self.first is None else seqlen - 1

    def windows(self, starts: Tensor, seqlen: int) -> Tensor:
        """The windows whose text begins at some places, (windows, seqlen)."""
        if self.first is None:
            return self.ids.unfold(0, seqlen, 1)[starts]
        # The window of these ids at a place p has the text from p on, behind its first token. Where
        # the text has a BOS token at p, the window at p + 1 has that one in front: no second one.
        ids = torch.cat([torch.tensor([self.first]), self.ids])
        places = starts + (self.ids[starts] == self.first)
        beyond = places > len(ids) - seqlen  # no room for that at the end of the text
        windows = ids.unfold(0, seqlen, 1)[(places - 2 * beyond.long()).clamp(min=0)]
        windows[:, 0] = self.first
        return windows

    def starts(self, seqlen: int, stride: int) -> Tensor:
        """Where the text of windows begins that lie `stride` tokens apart; no token is lost.

        Behind a window that begins with a BOS token of the text itself, the next is one token
        further, because that window has one token more of the text.
        """
        last = len(self.ids) - self.of_text(seqlen)
        if self.first is None:
            return torch.arange(0, last + 1, stride)
        own = set((self.ids == self.first).nonzero()[:, 0].tolist())
        found, place = [], 0
        while place + (place in own) <= last:
            found.append(place)
            place += stride + (place in own)
        return torch.tensor(found)


@checked()
def calibration_windows(
    tokenizer: Any,
    dataset: str,
    *,
    nsamples: int,
    seqlen: int,
    seed: int,
    bos: Bos | None = None,
    column: str | None = None,
    chat: bool = False,
) -> Windows:
    """Draw `nsamples` windows at random places; the same `seed` draws the same windows.

    dataset  as for `read_text`, or a file of token ids as for `read_tokens`. If the file holds
             windows already, they are drawn without repetition
    bos      "each": every window begins with the BOS token, followed by seqlen - 1 tokens of the
             text; "first": the text does; "none": no special tokens are added. By default "each"
             for the tokenizer of a loaded model that needs it, such as Gemma's, else what the
             tokenizer does by itself. For token ids, which are taken as they are, it is refused
    column   the column of Parquet files and hubs, or the key of JSON objects, that holds the text;
             by default "text", and "messages" with `chat`
    chat     read conversations, lists of {"role": ..., "content": ...}, through the tokenizer's
             chat template

    A window may span several documents, so that no short document is lost. Raises ValueError if
    there is no such dataset, or if it is too short.
    """
    check_size(nsamples, seqlen)
    if not -(2**63) <= seed < 2**64:
        raise ValueError(f"seed must fit into 64 bits, got {seed}")
    tokens = _read(tokenizer, dataset, "calibration", seqlen, bos, column, chat)
    generator, ids = torch.Generator().manual_seed(seed), tokens.ids
    if ids.dim() == 2:
        if nsamples > len(ids):
            raise ValueError(
                f"nsamples must be at most {len(ids)}, the windows in {dataset}, got {nsamples}"
            )
        windows = ids[torch.randperm(len(ids), generator=generator)[:nsamples]]
    else:
        most = len(ids) - tokens.of_text(seqlen) + 1
        starts = torch.randint(0, most, (nsamples,), generator=generator)
        windows = tokens.windows(starts, seqlen)
    return Windows(windows, {**tokens.origin, "seed": seed})


@checked()
def evaluation_windows(
    tokenizer: Any,
    dataset: str,
    *,
    seqlen: int,
    stride: int | None = None,
    limit: int | None = None,
    bos: Bos | None = None,
    column: str | None = None,
    chat: bool = False,
) -> Windows:
    """Cut the text into windows that begin `stride` tokens apart, by default side by side.

    limit  take at most that many windows, evenly spread over the text

    Side by side means seqlen tokens apart, and seqlen - 1 if every window begins with the BOS
    token; `origin["stride"]` has the number, for `perplexity`. Tokens at the end that fill no
    window are dropped. Other arguments and errors as for `calibration_windows`.
    """
    tokens = _read(tokenizer, dataset, "evaluation", seqlen, bos, column, chat)
    if tokens.ids.dim() == 2:
        if stride not in (None, seqlen):
            raise ValueError(
                f"stride must be seqlen = {seqlen} for ids that are windows, got {stride}"
            )
        stride, available = seqlen, len(tokens.ids)
    else:
        most = tokens.of_text(seqlen)
        stride = most if stride is None else stride
        if tokens.first is not None and stride > most:
            raise ValueError(
                f"stride must be at most {most}, the tokens of the text in a window of {seqlen} "
                f"that begins with the BOS token, got {stride}"
            )
        check_stride(stride, seqlen)
        starts = tokens.starts(seqlen, stride)
        available = len(starts)
    if limit is not None:
        at_least_one("max_windows", limit)
    chosen = torch.arange(available)
    if limit is not None and limit < available:
        chosen = torch.arange(limit) * available // limit
    two = tokens.ids.dim() == 2
    windows = tokens.ids[chosen] if two else tokens.windows(starts[chosen], seqlen)
    return Windows(windows, {**tokens.origin, "stride": stride, "windows_available": available})


def check_stride(stride: int, seqlen: int) -> None:
    """Raise ValueError unless windows that begin `stride` tokens apart leave no token out."""
    if not 1 <= stride <= seqlen:
        raise ValueError(f"stride must be between 1 and seqlen = {seqlen}, got {stride}")


def _read(
    tokenizer: Any,
    dataset: str,
    part: Part,
    seqlen: int,
    bos: Bos | None,
    column: str | None,
    chat: bool,
) -> _Tokens:
    """The token ids of a text or a file; enough for one window."""
    at_least_one("seqlen", seqlen)
    if is_token_file(dataset):
        tokens = _of_ids(dataset, part, {"bos": bos, "column": column, "chat": chat or None})
    else:
        tokens = _of_text(tokenizer, dataset, part, bos, column, chat)
    ids = tokens.ids
    tokens.origin["tokens"] = ids.numel()
    if tokens.first is not None and seqlen < 2:
        raise ValueError(f"seqlen must be at least 2 for windows with a BOS token, got {seqlen}")
    if ids.dim() == 2 and ids.shape[1] != seqlen:
        raise ValueError(
            f"seqlen must be {ids.shape[1]}, the tokens of a window in {dataset}, got {seqlen}"
        )
    if ids.numel() < tokens.of_text(seqlen):
        raise ValueError(
            f"dataset {dataset} has {ids.numel()} tokens for {part}, too few for one window of "
            f"seqlen = {seqlen}"
        )
    return tokens


def is_token_file(dataset: str) -> bool:
    """Whether a data set is a file of token ids, by its name."""
    path = Path(dataset)
    return path.is_file() and path.suffix.lower() in TOKEN_SUFFIXES


def _of_ids(dataset: str, part: Part, options: dict[str, Any]) -> _Tokens:
    """The ids of a file. Raises ValueError for options of texts, by name, that are set."""
    for name, value in options.items():
        if value is not None:
            raise ValueError(
                f"{name} is for texts, and {dataset} holds token ids, taken as they are"
            )
    ids = read_tokens(Path(dataset))
    return _Tokens(ids, {"dataset": dataset, "part": part, "tokens_sha256": _sha256(ids)})


def _of_text(
    tokenizer: Any, dataset: str, part: Part, bos: Bos | None, column: str | None, chat: bool
) -> _Tokens:
    refuse_missing(dataset)
    if not callable(tokenizer):
        got = None if tokenizer is None else type(tokenizer).__name__
        raise ValueError(f"tokenizer must be given for a text, got {got}")
    beginning = chosen_bos(tokenizer, bos)
    template = Chat(tokenizer) if chat else None
    found = read_text(dataset, part, column=column, chat=template)
    ids = encode(tokenizer, found.text, beginning, special=not chat)
    origin = {
        **found.origin,
        "part": part,
        "rows": found.rows,
        "text_sha256": hashlib.sha256(found.text.encode()).hexdigest(),
        "bos": beginning,
        **({"chat_template_sha256": template.sha256} if template else {}),
    }
    first = tokenizer.bos_token_id if beginning == "each" else None
    return _Tokens(torch.tensor(ids, dtype=torch.long), origin, first)


def _sha256(ids: Tensor) -> str:
    """The SHA-256 of token ids as little-endian int64."""
    return hashlib.sha256(ids.contiguous().numpy().astype("<i8").tobytes()).hexdigest()


def check_size(nsamples: int, seqlen: int) -> None:
    """Raise ValueError unless there can be so many windows of so many tokens."""
    at_least_one("nsamples", nsamples)
    at_least_one("seqlen", seqlen)
    if nsamples * seqlen > MOST_TOKENS:
        raise ValueError(
            f"nsamples times seqlen must be at most {MOST_TOKENS} tokens, got {nsamples} x {seqlen}"
        )


def at_least_one(argument: str, value: int) -> None:
    """Raise ValueError if a count is below one."""
    if value < 1:
        raise ValueError(f"{argument} must be at least 1, got {value}")
