"""The tensors of a checkpoint folder, read one at a time."""

from pathlib import Path

from torch import Tensor

from thanos_torch.models.masks import MASKS
from thanos_torch.models.shards import (
    INDEX,
    WHOLE,
    read_tensors,
    refuse_packed,
    tensor_files,
    tensor_names,
)


class Tensors:
    """Every tensor in a folder's safetensors files, by name; never the whole model in memory.

    files  where each tensor is
    """

    def __init__(self, folder: Path) -> None:
        """Raises ValueError for a folder without safetensors, or with a bad index or file."""
        self.files: dict[str, Path] = {}
        for file in weight_files(folder):
            for name in tensor_names(file):
                if name in self.files:
                    raise ValueError(f"{name} is both in {self.files[name]} and in {file}")
                self.files[name] = file

    def __getitem__(self, name: str) -> Tensor:
        """Read a tensor; ValueError if there is none of that name."""
        if name not in self.files:
            raise ValueError(f"no safetensors file holds {name}")
        return read_tensors({name: self.files[name]})[name]


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint, or all but the masks of a folder that is none.

    Raises ValueError if there are none, if they are packed, or if a checkpoint's index or files are
    bad.
    """
    refuse_packed(folder)
    if (folder / WHOLE).exists() or (folder / INDEX).exists():
        return sorted(set(tensor_files(folder).values()))
    found = sorted(file for file in folder.glob("*.safetensors") if file.name != MASKS)
    if not found:
        raise ValueError(f"{folder} holds no weights: no .safetensors file")
    return found
