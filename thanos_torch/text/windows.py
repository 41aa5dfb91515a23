"""Windows of token ids, cut from a text or read from a file."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from thanos_torch.runtime.arguments import checked
from thanos_torch.runtime.errors import reason_of
from thanos_torch.text.sources import TOKEN_SUFFIXES, Part, read_text

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


@checked()
def calibration_windows(
    tokenizer: Any, dataset: str, *, nsamples: int, seqlen: int, seed: int
) -> Windows:
    """Draw `nsamples` windows at random places; the same `seed` draws the same windows.

    dataset  as for `read_text`, or a file of token ids as for `read_tokens`. If the file holds
             windows already, they are drawn without repetition

    A window may span several documents, so that no short document is lost. Raises ValueError if
    there is no such dataset, or if it is too short.
    """
    check_size(nsamples, seqlen)
    if not -(2**63) <= seed < 2**64:
        raise ValueError(f"seed must fit into 64 bits, got {seed}")
    ids, origin = _token_ids(tokenizer, dataset, "calibration", seqlen)
    generator = torch.Generator().manual_seed(seed)
    if ids.dim() == 2:
        if nsamples > len(ids):
            raise ValueError(
                f"nsamples must be at most {len(ids)}, the windows in {dataset}, got {nsamples}"
            )
        windows = ids[torch.randperm(len(ids), generator=generator)[:nsamples]]
    else:
        starts = torch.randint(0, len(ids) - seqlen + 1, (nsamples,), generator=generator)
        windows = torch.stack([ids[start : start + seqlen] for start in starts.tolist()])
    return Windows(windows, {**origin, "seed": seed})


@checked()
def evaluation_windows(
    tokenizer: Any,
    dataset: str,
    *,
    seqlen: int,
    stride: int | None = None,
    limit: int | None = None,
) -> Windows:
    """Cut the text into windows that begin `stride` tokens apart, by default side by side.

    limit  take at most that many windows, evenly spread over the text

    Tokens at the end that fill no window are dropped. dataset and errors as for
    `calibration_windows`.
    """
    ids, origin = _token_ids(tokenizer, dataset, "evaluation", seqlen)
    stride = seqlen if stride is None else stride
    if ids.dim() == 2 and stride != seqlen:
        raise ValueError(f"stride must be seqlen = {seqlen} for ids that are windows, got {stride}")
    check_stride(stride, seqlen)
    windows = ids if ids.dim() == 2 else ids.unfold(0, seqlen, stride)
    if limit is not None:
        at_least_one("max_windows", limit)
    available = len(windows)
    if limit is not None and limit < available:
        windows = windows[torch.arange(limit) * available // limit]
    return Windows(windows, {**origin, "stride": stride, "windows_available": available})


def check_stride(stride: int, seqlen: int) -> None:
    """Raise ValueError unless windows that begin `stride` tokens apart leave no token out."""
    if not 1 <= stride <= seqlen:
        raise ValueError(f"stride must be between 1 and seqlen = {seqlen}, got {stride}")


def check_windows(model: nn.Module, windows: Tensor, argument: str = "dataset") -> None:
    """Raise ValueError unless windows are token ids, (windows, seqlen), that suit a model.

    argument  names where the windows come from, for messages
    """
    if not isinstance(windows, Tensor) or windows.dtype not in (torch.int64, torch.int32):
        kind = windows.dtype if isinstance(windows, Tensor) else type(windows).__name__
        raise ValueError(f"windows must be a tensor of token ids, int64 or int32, got {kind}")
    if windows.is_meta or windows.layout is not torch.strided:
        what = "without content" if windows.is_meta else windows.layout
        raise ValueError(f"windows must be a plain tensor of token ids, got one {what}")
    if windows.dim() != 2 or not windows.numel():
        shape = tuple(windows.shape)
        raise ValueError(f"windows must have the shape (windows, seqlen), got {shape}")
    if int(windows.min()) < 0:
        raise ValueError(f"windows must hold token ids, got {int(windows.min())}")
    most = _of_text_config(model, "max_position_embeddings")
    if most is not None and windows.shape[1] > most:
        raise ValueError(f"seqlen must be at most {most} for this model, got {windows.shape[1]}")
    words = _of_text_config(model, "vocab_size")
    if words is not None and int(windows.max()) >= words:
        raise ValueError(
            f"{argument} must have token ids below {words}, the model's vocabulary, got "
            f"{int(windows.max())}"
        )


def _of_text_config(model: nn.Module, name: str) -> int | None:
    """A number of a model's config, None if that is below 1, which some write for none.

    Models of text and images nest the config of the text.
    """
    config: Any = getattr(model, "config", None)
    if hasattr(config, "get_text_config"):
        config = config.get_text_config()
    value = getattr(config, name, None)
    return value if isinstance(value, int) and value >= 1 else None


def _token_ids(
    tokenizer: Any, dataset: str, part: Part, seqlen: int
) -> tuple[Tensor, dict[str, Any]]:
    """Token ids, (tokens) of a text or file, or (windows, seqlen) of a file; and their origin."""
    at_least_one("seqlen", seqlen)
    path = Path(dataset)
    if path.is_file() and path.suffix.lower() in TOKEN_SUFFIXES:
        ids = read_tokens(path)
        origin: dict[str, Any] = {"dataset": dataset, "part": part, "tokens_sha256": _sha256(ids)}
    else:
        if not callable(tokenizer):
            got = None if tokenizer is None else type(tokenizer).__name__
            raise ValueError(f"tokenizer must be given for a text, got {got}")
        found = read_text(dataset, part)
        # Not verbose: tokenizers warn of long texts, but this one is cut right after.
        ids = torch.tensor(tokenizer(found.text, verbose=False)["input_ids"], dtype=torch.long)
        origin = {
            **found.origin,
            "part": part,
            "rows": found.rows,
            "joined_by": "blank lines",
            "text_sha256": hashlib.sha256(found.text.encode()).hexdigest(),
        }
    origin["tokens"] = ids.numel()
    if ids.dim() == 2 and ids.shape[1] != seqlen:
        raise ValueError(
            f"seqlen must be {ids.shape[1]}, the tokens of a window in {dataset}, got {seqlen}"
        )
    if ids.numel() < seqlen:
        raise ValueError(
            f"dataset {dataset} has {ids.numel()} tokens for {part}, too few for one window of "
            f"seqlen = {seqlen}"
        )
    return ids, origin


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
