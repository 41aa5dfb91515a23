"""Windows of tokens, cut from a text or read from a file of token ids."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from thanos_torch.text.sources import Part, read_text

TOKEN_SUFFIXES = (".npy", ".safetensors")


def read_tokens(path: Path) -> Tensor:
    """Token ids of an .npy file, or of the one tensor in a .safetensors file, as int64.

    (tokens) of one text, or (windows, seqlen). Raises ValueError for anything else. Pickled
    objects are not read.
    """
    array = _array(path)
    if array.dtype.kind not in "iu":
        raise ValueError(f"dataset {path} must hold integers, got {array.dtype}")
    if array.ndim not in (1, 2) or not array.size:
        raise ValueError(
            f"dataset {path} must have the shape (tokens) or (windows, seqlen), got {array.shape}"
        )
    if array.min() < 0:
        raise ValueError(f"dataset {path} must hold token ids, got {array.min()}")
    if array.max() > numpy.iinfo(numpy.int32).max:
        raise ValueError(f"dataset {path} must hold token ids, got {array.max()}")
    return torch.from_numpy(array.astype(numpy.int64))


def _array(path: Path) -> numpy.ndarray:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        if path.suffix == ".npy":
            with path.open("rb") as stream:
                return numpy.lib.format.read_array(stream, allow_pickle=False)
        tensors = load_file(path)
    except (ValueError, EOFError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise ValueError(f"dataset {path} holds no token ids: {error}") from error
    if len(tensors) != 1:
        raise ValueError(f"dataset {path} must hold one tensor, got {sorted(tensors)}")
    return next(iter(tensors.values()))


@dataclass(frozen=True)
class Windows:
    """Windows of a text.

    ids     (windows, seqlen) token ids
    origin  which text that is, and how it was cut
    """

    ids: Tensor
    origin: dict[str, Any]

    def provenance(self) -> dict[str, Any]:
        """What a report should say of the text, JSON-able."""
        return {
            **self.origin,
            "windows": self.ids.shape[0],
            "seqlen": self.ids.shape[1],
            "windows_sha256": _sha256(self.ids),
        }


def calibration_windows(
    tokenizer: Any, dataset: str, *, nsamples: int, seqlen: int, seed: int
) -> Windows:
    """`nsamples` windows at random places, the same for the same `seed`, bit for bit.

    A window may span several documents: short ones are packed, none is thrown away. dataset as
    for `read_text`, or token ids as for `read_tokens`; of ids that are windows already, different
    ones are drawn. Raises ValueError if dataset is neither, or too short.
    """
    at_least_one("nsamples", nsamples)
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


def evaluation_windows(
    tokenizer: Any,
    dataset: str,
    *,
    seqlen: int,
    stride: int | None = None,
    limit: int | None = None,
) -> Windows:
    """The text cut into windows that begin `stride` tokens apart, by default side by side.

    What is left at its end is dropped. `limit` takes that many windows, evenly spread over the
    text. dataset and errors as for `calibration_windows`.
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
    """Raise ValueError if windows that begin `stride` apart would leave tokens out."""
    if not 1 <= stride <= seqlen:
        raise ValueError(f"stride must be between 1 and seqlen = {seqlen}, got {stride}")


def check_windows(model: nn.Module, windows: Tensor) -> None:
    """Raise ValueError if a model cannot read windows, (windows, seqlen): length, token ids."""
    most = _of_text_config(model, "max_position_embeddings")
    if most is not None and windows.shape[1] > most:
        raise ValueError(f"seqlen must be at most {most} for this model, got {windows.shape[1]}")
    words = _of_text_config(model, "vocab_size")
    if words is not None and int(windows.max()) >= words:
        raise ValueError(
            f"dataset must have token ids below {words}, the model's vocabulary, got "
            f"{int(windows.max())}"
        )


def _of_text_config(model: nn.Module, name: str) -> int | None:
    """A number of a model's config, where models of text and images nest that of the text."""
    config: Any = getattr(model, "config", None)
    if hasattr(config, "get_text_config"):
        config = config.get_text_config()
    value: int | None = getattr(config, name, None)
    return value


def _token_ids(
    tokenizer: Any, dataset: str, part: Part, seqlen: int
) -> tuple[Tensor, dict[str, Any]]:
    """Ids (tokens) of a whole text, or (windows, seqlen) of a file; and what they are."""
    at_least_one("seqlen", seqlen)
    path = Path(dataset)
    if path.is_file() and path.suffix in TOKEN_SUFFIXES:
        ids = read_tokens(path)
        origin: dict[str, Any] = {"dataset": dataset, "part": part, "tokens_sha256": _sha256(ids)}
    else:
        found = read_text(dataset, part)
        # Tokenizers warn of text that is longer than the model's window; it is cut right after.
        ids = torch.tensor(tokenizer(found.text, verbose=False)["input_ids"], dtype=torch.long)
        text_sha256 = hashlib.sha256(found.text.encode()).hexdigest()
        origin = {**found.origin, "part": part, "rows": found.rows, "joined_by": "blank lines"}
        origin["text_sha256"] = text_sha256
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
    """Of token ids as int64, the lowest byte first."""
    return hashlib.sha256(ids.contiguous().numpy().astype("<i8").tobytes()).hexdigest()


def at_least_one(argument: str, value: int) -> None:
    """Raise ValueError unless the argument is a count of something."""
    if value < 1:
        raise ValueError(f"{argument} must be at least 1, got {value}")
