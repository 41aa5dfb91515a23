"""The tensors of a checkpoint folder, read one at a time."""

import json
from pathlib import Path

from torch import Tensor

from thanos_torch.models.masks import MASKS

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


class Tensors:
    """Every tensor in a folder's safetensors files, by name; never the whole model in memory.

    files  where each tensor is
    """

    def __init__(self, folder: Path) -> None:
        """Raises ValueError for a folder without safetensors, or with a bad index or file."""
        from safetensors import SafetensorError, safe_open

        self.files: dict[str, Path] = {}
        for file in weight_files(folder):
            try:
                with safe_open(file, framework="pt") as stored:
                    names = list(stored.keys())
            except (SafetensorError, OSError) as error:
                raise ValueError(f"{file} cannot be read: {error}") from error
            for name in names:
                if name in self.files:
                    raise ValueError(f"{name} is both in {self.files[name]} and in {file}")
                self.files[name] = file

    def __getitem__(self, name: str) -> Tensor:
        """Read a tensor; ValueError if there is none of that name."""
        from safetensors import safe_open

        if name not in self.files:
            raise ValueError(f"no safetensors file holds {name}")
        with safe_open(self.files[name], framework="pt") as stored:
            tensor: Tensor = stored.get_tensor(name)
        return tensor


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint: the one, those of its index, or all but the masks.

    Raises ValueError if there are none, or if the index names a file outside the folder.
    """
    if (folder / SINGLE).is_file():  # as Transformers: an index beside it may be an older one
        return [folder / SINGLE]
    index = folder / INDEX
    if index.is_file():
        return [folder / name for name in _files_of_index(index)]
    found = sorted(file for file in folder.glob("*.safetensors") if file.name != MASKS)
    if not found:
        raise ValueError(f"{folder} holds no weights: no .safetensors file")
    return found


def _files_of_index(index: Path) -> list[str]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        strange = [name for name in names if Path(name).name != name]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is no index of safetensors files: {error!r}") from error
    if strange:
        raise ValueError(f"{index} names {strange[0]!r}, which is no file in its folder")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise ValueError(f"{index} names {missing[0]}, which is not there")
    return sorted(names)
