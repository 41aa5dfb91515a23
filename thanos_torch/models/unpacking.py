"""`thanos unpack`: the checkpoint that was packed, bit for bit."""

from pathlib import Path

import torch

from thanos_torch.models.folders import new_folder
from thanos_torch.models.masks import MASKS, PackedMask
from thanos_torch.models.packed import PackedFolder
from thanos_torch.models.packing import copy_others


def unpack_checkpoint(packed: Path, out: Path) -> None:
    """Write every file of the checkpoint as it was, all of them or nothing.

    One tensor is in memory at a time. Raises ValueError if a file of weights or masks comes out
    otherwise: then what holds it was damaged.
    """
    source = PackedFolder(packed)
    with new_folder(out) as partial:
        for name, file in source.files.items():
            file.write(partial / name, source.read)
        if source.masks:
            source.masks.write(
                partial / MASKS,
                lambda layer: torch.from_numpy(PackedMask.of(source.mask(layer)).bits),
            )
        copy_others(packed, partial, source.packed_files())
