"""Token ids in local files, for those who tokenise themselves."""

from pathlib import Path

import numpy
import torch
from torch import Tensor

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
