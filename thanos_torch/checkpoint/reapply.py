"""Keep the zeros of a pruned model through fine-tuning, or set them again afterwards."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from thanos_torch.checkpoint.masks import (
    PackedMask,
    Place,
    erase,
    mask_file,
    read_masks,
    read_places,
)
from thanos_torch.checkpoint.shards import (
    MASKS,
    RECORD,
    Tensors,
    inside,
    read_metadata,
    read_tensors,
    tensor_names,
    weight_files,
    write_shard,
)
from thanos_torch.network.layers import PrunableLayer, model_layers
from thanos_torch.runtime.files import new_folder

Masks = Mapping[str, PackedMask] | str | Path
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


class HeldMasks:
    """Sets the removed weights of a model to zero again whenever it is called.

    Give it to `optimizer.register_step_post_hook`: then no step brings a removed weight back.
    """

    def __init__(self, model: nn.Module, masks: Masks) -> None:
        """Raises ValueError, naming the layer, if the model lacks it or has it in another shape.

        masks  the folder of the pruned checkpoint, its file of masks, or what `read_masks` returns
        """
        if isinstance(masks, str | Path):
            masks = read_masks(masks)
        layers = model_layers(model)
        self._held: list[tuple[PrunableLayer, Tensor]] = []
        for name, mask in masks.items():
            if name not in layers:
                raise ValueError(f"masks: the model has no layer {name}")
            _check_shape(name, layers[name].matrix, mask)
            self._held.append((layers[name], mask.unpacked().to(layers[name].stored.device)))

    def __call__(self, *_: Any) -> None:
        """Set the removed weights to zero; the arguments that a hook gets are ignored."""
        self.apply()

    @torch.no_grad()
    def apply(self) -> int:
        """Set the removed weights to zero; returns how many were not zero."""
        return sum(erase(layer.matrix, removed) for layer, removed in self._held)


def reapply_masks(model: nn.Module, masks: Masks) -> int:
    """Set the removed weights of a model to zero once, in place; returns how many were not zero.

    Arguments and errors as for `HeldMasks`, which does it after every step of a training.
    """
    return HeldMasks(model, masks).apply()


def reapply_checkpoint(
    checkpoint: str | Path, masks: str | Path, out: str | Path
) -> dict[str, int]:
    """Write a checkpoint with its removed weights at zero; returns how many were not, by layer.

    masks  the folder of the pruned checkpoint, or its file of masks

    One file of weights is in memory at a time. Other files are copied, except pickles, and except
    `thanos.json`, whose certificates are about other weights. All of `out` is written or nothing.
    Raises ValueError for masks that do not fit the checkpoint, and for links out of its folder.
    """
    checkpoint, out = Path(checkpoint), Path(out)
    packed, tensors = read_masks(masks), Tensors(checkpoint)
    places = read_places(masks)
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
            if not skipped and inside(checkpoint, other.name).is_file():
                shutil.copyfile(other, partial / other.name)
        shutil.copyfile(mask_file(masks), partial / MASKS)
    return lost


def _reapply_file(
    file: Path, masks: Mapping[str, PackedMask], places: Mapping[str, Place], target: Path
) -> dict[str, int]:
    tensors = read_tensors(dict.fromkeys(tensor_names(file), file))
    lost = {
        name: places[name].erase(tensors, mask.unpacked())
        for name, mask in masks.items()
        if tensors.keys() & set(places[name].tensors)
    }
    write_shard(target, tensors, read_metadata(file))
    return lost


def _check_shape(name: str, weight: Tensor, mask: PackedMask) -> None:
    if tuple(weight.shape) != mask.shape:
        raise ValueError(
            f"masks: {name} has the shape {tuple(weight.shape)}, its mask {mask.shape}"
        )
