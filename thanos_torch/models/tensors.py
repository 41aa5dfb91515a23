"""The tensors of a checkpoint folder, read one at a time."""

from pathlib import Path

from torch import Tensor

from thanos_torch.models.masks import MASKS
from thanos_torch.models.shards import (
    INDEX,
    WHOLE,
    describe_tensors,
    inside,
    read_tensors,
    refuse_packed,
    tensor_files,
    tensor_names,
)


class Tensors:
    """Every tensor in a folder's safetensors files, by name; never the whole model in memory.

    folder  where they are
    files   the file of each tensor
    """

    def __init__(self, folder: Path) -> None:
        """Raises ValueError for a folder without safetensors, or with a bad index or file."""
        self.folder, self.files = folder, dict[str, Path]()
        for file in weight_files(folder):
            for name in tensor_names(file):
                if name in self.files:
                    raise ValueError(f"{name} is both in {self.files[name]} and in {file}")
                self.files[name] = file

    def __getitem__(self, name: str) -> Tensor:
        """Read a tensor; ValueError if there is none of that name."""
        return read_tensors(self._file_of(name))[name]

    def described(self, name: str) -> Tensor:
        """A tensor's dtype and shape, on the meta device; ValueError if there is none."""
        try:
            return describe_tensors(self._file_of(name))[name]
        except KeyError as error:
            raise ValueError(f"{name} is of a type that torch has not: {error}") from None

    def _file_of(self, name: str) -> dict[str, Path]:
        if name not in self.files:
            raise ValueError(f"no safetensors file holds {name}")
        return {name: self.files[name]}


def weight_files(folder: Path) -> list[Path]:
    """The checkpoint's weight files.

    If the folder has no index and no model.safetensors, every .safetensors file but
    masks.safetensors. Raises ValueError if there are none, if they are packed, if one is a link out
    of the folder, or if a checkpoint's index or files are bad.
    """
    refuse_packed(folder)
    if (folder / WHOLE).exists() or (folder / INDEX).exists():
        return sorted(set(tensor_files(folder).values()))
    names = sorted(file.name for file in folder.glob("*.safetensors") if file.name != MASKS)
    found = [inside(folder, name) for name in names]
    if not found:
        raise ValueError(f"{folder} holds no weights: no .safetensors file")
    return found
