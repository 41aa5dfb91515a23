"""The dense checkpoint that a pruned one is judged by."""

from dataclasses import dataclass
from pathlib import Path

import torch

from thanos_torch.models.blocks import prunable_layers
from thanos_torch.models.loading import stream_original
from thanos_torch.models.places import Place
from thanos_torch.models.tensors import Tensors


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
