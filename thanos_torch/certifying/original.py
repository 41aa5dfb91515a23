"""The dense checkpoint that a pruned one is compared with, tensor by tensor."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from pathlib import Path

import torch
from torch import Tensor

from thanos_torch.checkpoint.load import stream_original
from thanos_torch.checkpoint.masks import Place
from thanos_torch.checkpoint.shards import INDEX, WHOLE, Tensors, tensor_files
from thanos_torch.network.layers import prunable_layers


@dataclass(frozen=True)
class OriginalLayer:
    """A linear layer of the dense model.

    shape  (c, b)
    dtype  what the model holds its weight in
    place  where the checkpoint has its weight; None if its rows are not found there in order
    """

    shape: tuple[int, int]
    dtype: torch.dtype
    place: Place | None

    @property
    def weights(self) -> int:
        """How many weights it has, c b."""
        return self.shape[0] * self.shape[1]


class Original:
    """The tensors of the dense checkpoint, and all layers of its decoder blocks that can be pruned.

    Names, shapes and places come from the dense checkpoint alone. Those in `thanos.json` are the
    word of whoever pruned.
    """

    def __init__(self, folder: Path, *, trust_remote_code: bool = False) -> None:
        """Raises ValueError for a folder that holds no such model."""
        self.folder, self.tensors = folder, Tensors(folder)
        streamed = stream_original(folder, trust_remote_code=trust_remote_code)
        self.layers: dict[str, OriginalLayer] = {}
        for index, group in enumerate(prunable_layers(streamed.blocks, streamed.prefix)):
            places = streamed.places(index)
            for name, layer in group.items():
                self.layers[name] = OriginalLayer(layer.shape, layer.dtype, places.get(name))

    @property
    def places(self) -> dict[str, Place]:
        """Where the checkpoint has the weights of the layers, as far as that is known."""
        return {name: layer.place for name, layer in self.layers.items() if layer.place}

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """(c, b) of every layer."""
        return {name: layer.shape for name, layer in self.layers.items()}


Reading = Callable[[Tensors], Tensor]


@dataclass
class TensorComparison:
    """What became of the tensors beside the judged weights.

    same      how many are equal in both checkpoints
    found     "added", "lost" or "changed", and how if that is known, by name
    unjudged  layers that should have been pruned, differ, and are not judged
    """

    same: int = 0
    found: dict[str, str] = field(default_factory=dict)
    unjudged: list[str] = field(default_factory=list)

    def compare(self, name: str, read: Reading, original: Tensors, pruned: Tensors) -> None:
        """Count a tensor as the same, or name it."""
        try:
            before, after = read(original), read(pruned)
            refuse_unlike(before, after)
        except ValueError as error:
            self.found[name] = f"changed: {error}"
            return
        if same_bits(before, after):
            self.same += 1
        else:
            self.found[name] = "changed"


def same_tensors(
    original: Original, pruned: Tensors, judged: Collection[str], skipped: Collection[str]
) -> TensorComparison:
    """Compare all tensors of two checkpoints but the weights of judged layers.

    judged   layers whose weights are judged
    skipped  layers that should have been pruned and are not judged: told apart where they differ

    Layers may share a tensor, as experts do. Of such a tensor the slices of all other layers are
    compared.
    """
    result, skips = TensorComparison(), TensorComparison()
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
    """What is wrong with the index of a checkpoint folder: it must name every tensor."""
    folder = pruned.folder
    if (folder / WHOLE).exists() or not (folder / INDEX).exists():
        return {}
    named = tensor_files(folder).keys()
    strange = sorted(named ^ pruned.files.keys())
    return {INDEX: f"changed: it does not name {strange[0]}"} if strange else {}


def same_bits(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors are the same to the bit: −0.0 is not 0.0, and NaN equals itself."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    return torch.equal(_bytes(first), _bytes(second))


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _weight(place: Place, tensors: Tensors) -> Tensor:
    return place.read(tensors.__getitem__)


def refuse_unlike(original: Tensor, pruned: Tensor) -> None:
    """Raise ValueError unless two tensors have the same dtype and shape."""
    if pruned.dtype != original.dtype:
        words = dtype_name(pruned.dtype), dtype_name(original.dtype)
        raise ValueError(f"stored as {words[0]}, the original as {words[1]}")
    if pruned.shape != original.shape:
        raise ValueError(f"of shape {tuple(pruned.shape)}, the original {tuple(original.shape)}")


def dtype_name(dtype: torch.dtype) -> str:
    """As people and JSON write it: bfloat16."""
    return str(dtype).removeprefix("torch.")
