"""The dense checkpoint that a pruned one is compared with: its tensors and its other files."""

import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from filecmp import cmp
from functools import partial
from json import loads
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thanos_torch.checkpoint.converted import CONFIG, config_in, converted
from thanos_torch.checkpoint.load import stream_original
from thanos_torch.checkpoint.masks import Place
from thanos_torch.checkpoint.shards import INDEX, WHOLE, Tensors, inside, tensor_files
from thanos_torch.network.layers import dtype_name, prunable_layers
from thanos_torch.pruning.checkpoint import WRITTEN, is_copied
from thanos_torch.runtime.arguments import checked


@dataclass(frozen=True)
class OriginalLayer:
    """A linear layer of the dense model.

    shape  (c, b)
    place  of the weight in the checkpoint; None if its rows are not found there in order
    """

    shape: tuple[int, int]
    place: Place | None

    @property
    def weights(self) -> int:
        """How many weights it has, c b."""
        return self.shape[0] * self.shape[1]


class Original:
    """The tensors of the dense checkpoint, and all prunable layers of its decoder blocks.

    Names, shapes and places come from the dense checkpoint alone. Those in `thanos.json` could be
    false: whoever pruned wrote them.
    """

    @checked()
    def __init__(self, folder: Path, *, trust_remote_code: bool = False) -> None:
        """Raises ValueError for a folder that holds no such model."""
        self.folder, self.tensors = folder, Tensors(folder)
        streamed = stream_original(folder, trust_remote_code=trust_remote_code)
        self.layers: dict[str, OriginalLayer] = {}
        for index, group in enumerate(prunable_layers(streamed.blocks)):
            places = streamed.places(index)
            for name, layer in group.items():
                self.layers[name] = OriginalLayer(layer.shape, places.get(name))

    @property
    def places(self) -> dict[str, Place]:
        """The known places of the layers' weights in the checkpoint."""
        return {name: layer.place for name, layer in self.layers.items() if layer.place}

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """(c, b) of every layer."""
        return {name: layer.shape for name, layer in self.layers.items()}


Reading = Callable[[Tensors], Tensor]


@dataclass
class TensorComparison:
    """Differences between the tensors of two checkpoints, apart from the judged weights.

    dtype     what the original's tensors are converted to before; None for nothing
    same      how many tensors are equal in both checkpoints
    found     by name: "added", "lost" or "changed", and how it changed if that is known
    unjudged  layers that should have been pruned, that differ, and that are not judged
    """

    dtype: torch.dtype | None = None
    same: int = 0
    found: dict[str, str] = field(default_factory=dict)
    unjudged: list[str] = field(default_factory=list)

    def compare(self, name: str, read: Reading, original: Tensors, pruned: Tensors) -> None:
        """Compare a tensor in both checkpoints, and note the result."""
        try:
            before, after = read(original), read(pruned)
            refuse_unlike(before, after, self.dtype)
        except ValueError as error:
            self.found[name] = f"changed: {error}"
            return
        if same_bits(converted(before, self.dtype), after):
            self.same += 1
        else:
            self.found[name] = "changed"


def same_tensors(
    original: Original,
    pruned: Tensors,
    judged: Collection[str],
    skipped: Collection[str],
    dtype: torch.dtype | None = None,
) -> TensorComparison:
    """Compare all tensors of two checkpoints except the weights of judged layers.

    judged   layers whose weights are judged
    skipped  layers that should have been pruned and are not judged: `unjudged` if they differ
    dtype    what the pruned checkpoint was to be written in; None: as the original

    Layers may share a tensor, as experts do. If such a layer is judged, the slices of the other
    layers are still compared.
    """
    result, skips = TensorComparison(dtype), TensorComparison(dtype)
    places = original.places
    own = {tensor for n in judged if n in places for tensor in places[n].tensors}
    shared = own | {tensor for n in skipped if n in places for tensor in places[n].tensors}
    before, after = original.tensors.files.keys(), pruned.files.keys()
    result.found |= dict.fromkeys(sorted(before - after - own), "lost")
    result.found |= dict.fromkeys(sorted(after - before), "added")
    for name in sorted((before & after) - shared):
        result.compare(name, itemgetter(name), original.tensors, pruned)
    for name, place in places.items():
        tensors = set(place.tensors)
        if name not in judged and tensors & shared and tensors <= after:
            into = skips if name in skipped else result
            into.compare(name, partial(_weight, place), original.tensors, pruned)
    result.unjudged = list(skips.found)
    return result


def check_index(pruned: Tensors) -> dict[str, str]:
    """The problem of a folder's index, by file name, if it does not name every tensor."""
    folder = pruned.folder
    if (folder / WHOLE).exists() or not (folder / INDEX).exists():
        return {}
    named = tensor_files(folder).keys()
    strange = sorted(named ^ pruned.files.keys())
    return {INDEX: f"changed: it does not name {strange[0]}"} if strange else {}


def same_bits(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors have the same bits: −0.0 differs from 0.0, and NaN equals itself."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    return torch.equal(_bytes(first), _bytes(second))


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _weight(place: Place, tensors: Tensors) -> Tensor:
    return place.read(tensors.__getitem__)


def refuse_unlike(original: Tensor, pruned: Tensor, dtype: torch.dtype | None = None) -> None:
    """Raise ValueError unless two tensors have the same shape, and the second the right dtype.

    dtype  what floating-point numbers were to be written in; None: as the original has them
    """
    wanted = converted(original, dtype).dtype
    if pruned.dtype != wanted:
        whose = "the original as" if wanted == original.dtype else "asked for as"
        words = dtype_name(pruned.dtype), dtype_name(wanted)
        raise ValueError(f"stored as {words[0]}, {whose} {words[1]}")
    if pruned.shape != original.shape:
        raise ValueError(f"of shape {tuple(pruned.shape)}, the original {tuple(original.shape)}")


NOT_COPIED = "holds weights, or lies in a hidden folder, and is not copied"

_NAMED = 5  # keys of a changed JSON file that are named
_PARSED = 2**26  # bytes; a larger JSON file is compared, but its keys are not


@dataclass
class FileComparison:
    """Differences between the files of two folders, apart from the weights.

    same       how many files are equal in both folders
    by_design  by name: why pruning itself changed a file
    found      by name: "added", "lost" or "changed", and how it changed if that is known
    """

    same: int = 0
    by_design: dict[str, str] = field(default_factory=dict)
    found: dict[str, str] = field(default_factory=dict)


def compare_files(
    original: Path,
    pruned: Path,
    weights: tuple[Iterable[Path], Iterable[Path]],
    dtype: torch.dtype | None = None,
) -> FileComparison:
    """Compare all files of two folders byte for byte, except the weight files.

    weights  the weight files of both folders; `same_tensors` compares their tensors
    dtype    what config.json of the second one is to name; None for no change

    No link is followed out of a folder. A file that cannot be read counts as changed.
    """
    before = _files(original, weights[0], pruned)
    after = _files(pruned, weights[1])
    result = FileComparison()
    for name in sorted(before | after):
        if name in WRITTEN:
            result.by_design[name] = WRITTEN[name]
        elif name not in after and not is_copied(name):
            result.by_design[name] = NOT_COPIED
        elif name not in after or name not in before:
            result.found[name] = "lost" if name in before else "added"
        elif difference := _difference(original, pruned, name, dtype):
            result.found[name] = f"changed: {difference}"
        elif dtype and name == CONFIG:
            result.by_design[name] = "names the dtype of the weights"
        else:
            result.same += 1
    return result


def _files(folder: Path, weights: Iterable[Path], other: Path | None = None) -> set[str]:
    """Paths in a folder of its files and links, except `weights` and a result folder `other`."""
    found: set[str] = set()
    without = {file.relative_to(folder).as_posix() for file in weights}
    for place, folders, files in os.walk(folder, onerror=_refuse):
        here = Path(place)
        links = [name for name in folders if (here / name).is_symlink()]
        folders[:] = [name for name in folders if not other or not _same(here / name, other)]
        found |= {(here / name).relative_to(folder).as_posix() for name in [*files, *links]}
    return found - without


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _refuse(error: OSError) -> None:
    raise error


def _difference(original: Path, pruned: Path, name: str, dtype: torch.dtype | None) -> str:
    """How a file differs; empty if it does not. For config.json see `compare_files`."""
    try:
        files = inside(original, name), inside(pruned, name)
        strange = next((file for file in files if not file.is_file()), None)
        if strange:
            return f"{strange} is no regular file"
        if dtype and name == CONFIG:
            return _changed_keys(config_in(files[0].read_bytes(), dtype), files[1].read_bytes())
        if cmp(*files, shallow=False):
            return ""
        if not name.endswith(".json") or max(file.stat().st_size for file in files) > _PARSED:
            return "other bytes"
        return _changed_keys(*(file.read_bytes() for file in files))
    except (OSError, ValueError, RecursionError) as error:
        return f"it cannot be read: {error}"


def _changed_keys(first: bytes, second: bytes) -> str:
    """Name the keys with different values in two JSON objects, for people; empty for equal text."""
    if first == second:
        return ""
    try:
        before, after = _parsed(first), _parsed(second)
    except (ValueError, RecursionError):
        return "it is no JSON object"
    keys = [
        key
        for key in sorted(before | after)
        if key not in before or key not in after or before[key] != after[key]
    ]
    named = ", ".join(keys[:_NAMED]) + (", ..." if len(keys) > _NAMED else "")
    return f"keys {named}" if keys else "the same values in other bytes"


def _parsed(text: bytes) -> dict[str, Any]:
    content = loads(text)
    if not isinstance(content, dict):
        raise ValueError("no object")
    return content
