"""Masks as bits: an eighth of their size in memory and on disk."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from thanos_torch.models.places import Place

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
