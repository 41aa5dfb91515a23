"""Pruning masks as bits, where a checkpoint has the weight of each layer, and the file of both."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NotRequired, Self, TypedDict

import torch
from torch import Tensor

from thanos_torch.checkpoint.shards import (
    MASKS,
    inside,
    read_metadata,
    read_tensors,
    tensor_names,
    write_small,
)
from thanos_torch.forms.form import bytes_of_bits, pack_bits, unpack_bits
from thanos_torch.network.layers import PRUNABLE_DTYPES
from thanos_torch.runtime.arguments import checked
from thanos_torch.runtime.strangers import Count, Shape, from_json, printable, shown, typed


@dataclass(frozen=True)
class PackedMask:
    """A (rows, columns) mask, True where a weight was removed.

    bits   uint8, (⌈rows · columns / 8⌉,), on the CPU: row by row, the highest bit first
    shape  (rows, columns)
    """

    bits: Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, mask: Tensor) -> Self:
        """Pack a bool tensor (rows, columns)."""
        rows, columns = mask.shape
        return cls(pack_bits(mask).cpu(), (rows, columns))

    def unpacked(self) -> Tensor:
        """The mask, (rows, columns) bool."""
        rows, columns = self.shape
        return unpack_bits(self.bits, rows * columns).view(self.shape)


# What a file says of a place only where it is something else.
_USUAL: dict[str, Any] = {"stacked": None, "interleaved": 1}


@dataclass(frozen=True)
class Place:
    """Where a checkpoint has the weight of a layer, (c, b).

    tensors     names; several tensors hold equally many rows each, in this order
    transposed  each tensor is stored inputs first, (b, rows)
    expert      the weight is this slice of a 3-D tensor; None: all of a matrix
    stacked     the weight of `expert` is one of so many that are the rows of a matrix, one after
                another; None: it is a slice in 3-D
    interleaved  so many equal parts of the rows take turns in the tensor: with 2, rows of the
                gate and of the up projection
    """

    tensors: tuple[str, ...]
    transposed: bool = False
    expert: Count | None = None
    stacked: Count | None = None
    interleaved: Count = 1

    def read(self, tensor: Callable[[str], Tensor]) -> Tensor:
        """The weight, (c, b); `tensor` reads one by name. Raises ValueError if they do not fit."""
        parts = [part for name in self.tensors for part in self._parts(name, tensor(name))]
        if len({part.shape[1] for part in parts}) > 1:
            raise ValueError(f"{' and '.join(self.tensors)} differ in their columns")
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def erase(self, tensors: Mapping[str, Tensor], removed: Tensor) -> int:
        """Set the entries of `removed`, (c, b), to zero in place; returns how many were not zero.

        `tensors` may lack some of the weight's tensors, because they are in another file.
        """
        lost = 0
        for name, mask in zip(self.tensors, removed.chunk(len(self.tensors)), strict=True):
            for part, own in zip(
                self._parts(name, tensors[name]) if name in tensors else (),
                mask.chunk(self.interleaved),
                strict=False,  # none if the tensor is not there
            ):
                lost += erase(part, own)
        return lost

    def arranged(self, weight: Tensor) -> Tensor:
        """A weight, or some of its rows, as a tensor has it: the inverse of `read`."""
        if self.interleaved > 1:
            weight = weight.unflatten(0, (self.interleaved, -1)).transpose(0, 1).flatten(0, 1)
        return weight.T if self.transposed else weight

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; the argument of `from_dict`."""
        usual = {name for name, value in _USUAL.items() if getattr(self, name) == value}
        said = {name: value for name, value in asdict(self).items() if name not in usual}
        return {**said, "tensors": list(self.tensors)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `as_dict` wrote. Raises ValueError for anything else."""
        place = typed({**_USUAL, **stored}, cls, "where a weight is stored is not said right")
        if not place.tensors or len(set(place.tensors)) < len(place.tensors):
            raise ValueError("a weight must be stored in one or several tensors, each named once")
        if place.stacked == 0 or (place.stacked and place.expert is None) or not place.interleaved:
            raise ValueError("where a weight is stored contradicts itself")
        return place

    def _parts(self, name: str, tensor: Tensor) -> list[Tensor]:
        """Views of a tensor, (rows, b), whose rows follow one another in the weight."""
        matrix, number = self._matrix(name, tensor), self.interleaved
        if len(matrix) % number:
            raise ValueError(f"{name} has {len(matrix)} rows, of which no {number} take turns")
        return [matrix[start::number] for start in range(number)]

    def _matrix(self, name: str, tensor: Tensor) -> Tensor:
        """A view of a tensor, (rows, b)."""
        if self.stacked and tensor.dim() == 2 and len(tensor) % self.stacked == 0:
            tensor = tensor.unflatten(0, (self.stacked, -1))
        if self.expert is not None:
            if tensor.dim() != 3 or self.expert >= len(tensor):
                raise ValueError(f"{name} of shape {tuple(tensor.shape)} lacks {self.expert}")
            tensor = tensor[self.expert]
        if tensor.dim() != 2 or tensor.dtype not in PRUNABLE_DTYPES:
            shape = tuple(tensor.shape)
            raise ValueError(f"{name}, {tensor.dtype} {shape}, is no matrix of plain numbers")
        return tensor.T if self.transposed else tensor


def packed_bytes(rows: int, columns: int) -> int:
    """How many bytes the bits of a mask take."""
    return bytes_of_bits(rows * columns)


def erase(weight: Tensor, removed: Tensor) -> int:
    """Set the entries of `removed` to zero in place, both (c, b); returns how many were not."""
    lost = int(((weight != 0) & removed).sum())
    weight.masked_fill_(removed, 0.0)
    return lost


def write_masks(file: Path, masks: Mapping[str, PackedMask], places: Mapping[str, Place]) -> None:
    """Write one uint8 tensor per layer; the metadata holds `shapes` and `places`, JSON by layer.

    places  may hold other layers too, which are not written
    """
    known = {name: places[name].as_dict() for name in masks if name in places}
    metadata = {
        "places": json.dumps(known),
        "shapes": json.dumps({name: mask.shape for name, mask in masks.items()}),
    }
    write_small(file, {name: mask.bits for name, mask in masks.items()}, metadata)


def mask_file(source: str | Path) -> Path:
    """The file with the masks: `source`, or masks.safetensors in the folder `source`.

    Raises ValueError if there is none.
    """
    path = Path(source)
    file = inside(path, MASKS) if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"masks: there is no {file}")
    return file


class _MaskMetadata(TypedDict):
    """The metadata of a file of masks; each value is JSON by layer."""

    shapes: str
    places: NotRequired[str]


@checked()
def read_masks(source: str | Path) -> dict[str, PackedMask]:
    """The masks of a pruned checkpoint, by layer; `source` is its folder or its file of masks.

    Raises ValueError if there is no such file or if it is damaged.
    """
    file = mask_file(source)
    problem = f"masks: {file} is damaged"
    shapes = from_json(_metadata(file, problem)["shapes"], dict[str, Shape], problem)
    if strange := sorted(shapes.keys() ^ set(tensor_names(file))):
        raise ValueError(f"{problem}: it lacks the mask or the shape of {shown(strange[0])}")
    masks: dict[str, PackedMask] = {}
    for name, bits in read_tensors(dict.fromkeys(shapes, file)).items():
        if bits.dtype != torch.uint8 or bits.shape != (packed_bytes(*shapes[name]),):
            raise ValueError(f"{problem}: the mask of {printable(name)} does not fit its shape")
        masks[name] = PackedMask(bits, shapes[name])
    return {name: masks[name] for name in shapes}


def read_places(source: str | Path) -> dict[str, Place]:
    """Where the checkpoint has the weights of the layers with masks; `source` as for `read_masks`.

    Raises ValueError if the file does not say it.
    """
    file = mask_file(source)
    problem = f"{file} does not say where the weights are"
    known = from_json(
        _metadata(file, problem).get("places", "{}"), dict[str, dict[str, object]], problem
    )
    try:
        return {name: Place.from_dict(place) for name, place in known.items()}
    except ValueError as error:
        raise ValueError(f"{problem}: {error}") from None


def _metadata(file: Path, problem: str) -> _MaskMetadata:
    return typed(read_metadata(file), _MaskMetadata, problem)
