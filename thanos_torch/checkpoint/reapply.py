"""Keep the zeros of a pruned model through fine-tuning."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from thanos_torch.checkpoint.masks import MASKS, PackedMask, Place, read_masks, read_places
from thanos_torch.checkpoint.shards import RECORD, Tensors, weight_files
from thanos_torch.network.layers import PrunableLayer, decoder_blocks, prunable_layers
from thanos_torch.runtime.files import new_folder

Masks = Mapping[str, PackedMask] | Path
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


class HeldMasks:
    """Sets removed weights to zero again, whenever it is called.

    Give it to `optimizer.register_step_post_hook`: then no step brings a removed weight back.
    """

    def __init__(self, model: nn.Module, masks: Masks) -> None:
        """Raises ValueError, naming it, for a layer that the model lacks or has in another shape.

        masks  as `read_masks` gives them, or a folder or file that holds them
        """
        if isinstance(masks, Path):
            masks = masks_in(masks)
        prefix, blocks = decoder_blocks(model)
        layers = {n: each for group in prunable_layers(blocks, prefix) for n, each in group.items()}
        self._held: list[tuple[PrunableLayer, Tensor]] = []
        for name, mask in masks.items():
            if name not in layers:
                raise ValueError(f"masks: the model has no layer {name}")
            _check_shape(name, layers[name].matrix, mask)
            self._held.append((layers[name], _removed(mask).to(layers[name].stored.device)))

    def __call__(self, *_: Any) -> None:
        """Set them to zero; arguments, which hooks get, do not matter."""
        self.apply()

    @torch.no_grad()
    def apply(self) -> int:
        """Set them to zero, and say how many were not."""
        lost = 0
        for layer, removed in self._held:
            weight = layer.matrix
            lost += int(((weight != 0) & removed).sum())
            weight.masked_fill_(removed, 0.0)
        return lost


def reapply_masks(model: nn.Module, masks: Masks) -> int:
    """Set the removed weights of a model to zero again, in place; how many were not.

    masks and errors as for `HeldMasks`, which is for every step of a training
    """
    return HeldMasks(model, masks).apply()


def masks_in(place: Path) -> dict[str, PackedMask]:
    """The masks in a folder or file; ValueError if there are none."""
    file = place / MASKS if place.is_dir() else place
    if not file.is_file():
        raise ValueError(f"masks: there is no {file}")
    return read_masks(file)


def reapply_checkpoint(checkpoint: Path, masks: Path, out: Path) -> dict[str, int]:
    """Write a checkpoint with its removed weights at zero again; how many were not, by layer.

    One file is in memory at a time. Other files are copied, but for pickles, and for a
    `thanos.json`, which would certify other weights than these. All of it is written or nothing.
    Raises ValueError for masks that do not fit.
    """
    packed, tensors = masks_in(masks), Tensors(checkpoint)
    places = read_places(masks / MASKS if masks.is_dir() else masks)
    for name, mask in packed.items():
        if name not in places:
            raise ValueError(f"masks: nothing says where a checkpoint has the weight of {name}")
        _check_shape(name, places[name].read(tensors.__getitem__), mask)
    lost = dict.fromkeys(packed, 0)
    files = weight_files(checkpoint)
    with new_folder(out) as partial:
        for file in files:
            for name, count in _reapply_file(file, packed, places, partial / file.name).items():
                lost[name] += count
        for other in checkpoint.iterdir():
            skipped = other in files or other.suffix in _PICKLES or other.name in (MASKS, RECORD)
            if other.is_file() and not skipped:
                shutil.copyfile(other, partial / other.name)
        shutil.copyfile(masks / MASKS if masks.is_dir() else masks, partial / MASKS)
    return lost


def _reapply_file(
    file: Path, masks: Mapping[str, PackedMask], places: Mapping[str, Place], target: Path
) -> dict[str, int]:
    from safetensors import safe_open
    from safetensors.torch import save_file

    lost: dict[str, int] = {}
    with safe_open(file, framework="pt") as stored:
        metadata = stored.metadata()
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    for name, mask in masks.items():
        if tensors.keys() & set(places[name].tensors):
            lost[name] = places[name].erase(tensors, _removed(mask))
    save_file(tensors, target, metadata=metadata)
    return lost


def _check_shape(name: str, weight: Tensor, mask: PackedMask) -> None:
    if tuple(weight.shape) != mask.shape:
        raise ValueError(
            f"masks: {name} has the shape {tuple(weight.shape)}, its mask {mask.shape}"
        )


def _removed(mask: PackedMask) -> Tensor:
    return torch.from_numpy(mask.unpacked())
