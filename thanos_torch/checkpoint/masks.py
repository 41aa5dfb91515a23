"""Pruning masks as bits, and the names and orientation of a layer's weight in a checkpoint."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Place:
    """The weight of a layer, (c, b), in the tensors of a checkpoint.

    tensors     names; several have equally many rows, which follow each other
    transposed  each is stored inputs first, (b, rows)
    expert      it is this slice of a 3-D tensor; None: all of a matrix
    """

    tensors: tuple[str, ...]
    transposed: bool = False
    expert: int | None = None

    def read(self, tensor: Callable[[str], Tensor]) -> Tensor:
        """The weight, (c, b); `tensor` reads one by name. Raises ValueError if they do not fit."""
        parts = [self._matrix(name, tensor(name)) for name in self.tensors]
        if len({part.shape[1] for part in parts}) > 1:
            raise ValueError(f"{' and '.join(self.tensors)} differ in their columns")
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def erase(self, tensors: Mapping[str, Tensor], removed: Tensor) -> int:
        """Set entries to zero in place, those of `removed`, (c, b); how many were not.

        Only what is in `tensors` is touched: a checkpoint's file may hold a part of the weight.
        """
        lost = 0
        for name, mask in zip(self.tensors, removed.chunk(len(self.tensors)), strict=True):
            if name in tensors:
                matrix = self._matrix(name, tensors[name])
                lost += int(((matrix != 0) & mask).sum())
                matrix.masked_fill_(mask, 0.0)
        return lost

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; the argument of `from_dict`."""
        return {**asdict(self), "tensors": list(self.tensors)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """What `as_dict` made. Raises KeyError or TypeError for anything else."""
        return cls(tuple(map(str, stored["tensors"])), stored["transposed"], stored["expert"])

    def _matrix(self, name: str, tensor: Tensor) -> Tensor:
        """A view of a tensor, (rows, b)."""
        if self.expert is not None:
            if tensor.dim() != 3 or self.expert >= len(tensor):
                raise ValueError(f"{name} of shape {tuple(tensor.shape)} lacks {self.expert}")
            tensor = tensor[self.expert]
        if tensor.dim() != 2 or not tensor.is_floating_point():
            raise ValueError(f"{name} is no matrix of numbers")
        return tensor.T if self.transposed else tensor


def row_codes(shape: torch.Size) -> Tensor:
    """A stand-in for a parameter (..., c, b): every row of one column holds its own number."""
    rows = shape[:-1]
    return torch.arange(float(rows.numel()), dtype=torch.float64).view(*rows, 1)


def first_rows(codes: Mapping[str, Tensor]) -> dict[str, int]:
    """The row that each tensor begins with, for those that hold rows in their order."""
    found: dict[str, int] = {}
    for name, tensor in codes.items():
        numbers = tensor.flatten()
        first = int(numbers[0])
        ordered = torch.arange(first, first + len(numbers), dtype=numbers.dtype)
        if tensor.shape == (len(numbers), 1) and torch.equal(numbers, ordered):
            found[name] = first
    return found


MASKS = "masks.safetensors"  # in a pruned checkpoint's folder


@dataclass(frozen=True)
class PackedMask:
    """A (rows, columns) mask, True where a weight was removed, row by row in `numpy.packbits`."""

    bits: NDArray[np.uint8]
    shape: tuple[int, int]

    @classmethod
    def of(cls, mask: Tensor) -> Self:
        """Pack a bool tensor (rows, columns)."""
        rows, columns = mask.shape
        return cls(np.packbits(mask.cpu().numpy()), (rows, columns))

    def unpacked(self) -> NDArray[np.bool_]:
        """The mask, (rows, columns) bool."""
        rows, columns = self.shape
        return np.unpackbits(self.bits, count=rows * columns).astype(bool).reshape(rows, columns)


def write_masks(file: Path, masks: Mapping[str, PackedMask], places: Mapping[str, Place]) -> None:
    """One uint8 tensor a layer; the metadata holds `shapes` and `places` by layer, as JSON.

    places  of these layers and others, which are not written

    One entry for all, because the writer puts several in an order of its own, another every time.
    """
    from safetensors.numpy import save_file

    shapes = json.dumps({name: mask.shape for name, mask in masks.items()})
    bits = {name: mask.bits for name, mask in masks.items()}
    known = {name: places[name].as_dict() for name in masks if name in places}
    save_file(bits, file, metadata={"places": json.dumps(known), "shapes": shapes})


def read_places(file: Path) -> dict[str, Place]:
    """Where the checkpoint of a saved run has the weights of the layers with masks."""
    from safetensors import safe_open

    with safe_open(file, framework="numpy") as stored:
        metadata = stored.metadata() or {}
    try:
        known = json.loads(metadata["places"])
        return {name: Place.from_dict(place) for name, place in known.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} does not say where the weights are: {error!r}") from error


def read_masks(file: Path) -> dict[str, PackedMask]:
    """The masks of a saved run, by layer."""
    from safetensors import safe_open

    masks: dict[str, PackedMask] = {}
    with safe_open(file, framework="numpy") as stored:
        shapes = json.loads((stored.metadata() or {}).get("shapes", "{}"))
        for name, (rows, columns) in shapes.items():
            masks[name] = PackedMask(stored.get_tensor(name), (rows, columns))
    return masks
