"""Set the removed weights of a fine-tuned model to zero again."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from thanos_torch.checkpoint.held import HeldMasks, Masks, check_shape
from thanos_torch.checkpoint.masks import PackedMask, Place, mask_file, read_masks, read_places
from thanos_torch.checkpoint.shards import (
    INDEX,
    MASKS,
    RECORD,
    ShardWriter,
    Tensors,
    inside,
    read_in_turn,
    read_metadata,
    side_files,
    tensor_names,
    weight_files,
)
from thanos_torch.runtime.arguments import checked
from thanos_torch.runtime.files import new_folder


@checked()
def reapply_masks(model: nn.Module, masks: Masks) -> int:
    """Set the removed weights of a model to zero once, in place; returns how many were not zero.

    Arguments and errors as for `HeldMasks`, which does it after every step of a training.
    """
    return HeldMasks(model, masks).apply()


@checked()
def reapply_checkpoint(
    checkpoint: str | Path, masks: str | Path, out: str | Path
) -> dict[str, int]:
    """Write a checkpoint with its removed weights at zero; returns how many were not, by layer.

    masks  the folder of the pruned checkpoint, or its file of masks

    Few tensors are in memory at a time. Files that hold no weights are copied, except
    `thanos.json`, whose certificates are about other weights. All of `out` is written or nothing.
    Raises ValueError for masks that do not fit the checkpoint, and for links out of its folder.
    """
    checkpoint, out = Path(checkpoint), Path(out)
    packed, tensors = read_masks(masks), Tensors(checkpoint)
    places = read_places(masks)
    for name, mask in packed.items():
        if name not in places:
            raise ValueError(f"masks: nothing says where a checkpoint has the weight of {name}")
        check_shape(name, places[name].read(tensors.__getitem__).shape, mask)
    lost = dict.fromkeys(packed, 0)
    files = weight_files(checkpoint)
    index = [INDEX] if (checkpoint / INDEX).exists() else []
    copied = index + [name for name in side_files(checkpoint, out) if name != RECORD]
    pruned = {"the pruned checkpoint": Path(masks)} if Path(masks).is_dir() else {}
    with new_folder(out, {"the checkpoint": checkpoint, **pruned}) as partial:
        for file in files:
            for name, count in _reapply_file(file, packed, places, partial / file.name).items():
                lost[name] += count
        for name in copied:
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(inside(checkpoint, name), partial / name)
        shutil.copyfile(mask_file(masks), partial / MASKS)
    return lost


def _reapply_file(
    file: Path, masks: Mapping[str, PackedMask], places: Mapping[str, Place], target: Path
) -> dict[str, int]:
    """Write a file of weights again, with the zeros of the masks; how many were lost, by layer."""
    layers: dict[str, list[str]] = {}
    for layer in masks:
        for name in places[layer].tensors:
            layers.setdefault(name, []).append(layer)
    lost = dict.fromkeys(masks, 0)
    written = ShardWriter(target, read_metadata(file))
    for name, tensor in read_in_turn(file, tensor_names(file)):
        for layer in layers.get(name, ()):
            lost[layer] += places[layer].erase({name: tensor}, masks[layer].unpacked())
        written.add({name: tensor})
    written.finish()
    return lost
