"""Where decoder blocks come from, where they go, and which of them are finished."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from thanos_torch.models.masks import PackedMask
from thanos_torch.models.report import LayerRecord


@dataclass(frozen=True)
class FinishedBlock:
    """What a report needs of a block that is pruned and stored.

    seconds  by stage, as in `ModelReport`
    shares   the same of every rank, if there were several
    """

    layers: list[LayerRecord]
    seconds: dict[str, float]
    shares: list[dict[str, float]]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; the argument of `from_dict`."""
        layers = [layer.as_dict() for layer in self.layers]
        return {"layers": layers, "seconds": self.seconds, "shares": self.shares}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "FinishedBlock":
        """What `as_dict` made, after a journey through JSON."""
        layers = [LayerRecord.from_dict(layer) for layer in stored["layers"]]
        return cls(layers, stored["seconds"], stored["shares"])


class BlockStore(Protocol):
    """Every method takes the index of a decoder block. Raises ValueError or OSError."""

    def finished(self, index: int) -> FinishedBlock | None:
        """What came of the block if it needs no more work."""

    def fetch(self, index: int) -> None:
        """Fill the block's weights: pruned ones if it is finished, else the model's own."""

    def keep(self, index: int) -> None:
        """Store the pruned block; its weights are those that were stored afterwards."""

    def finish(self, index: int, block: FinishedBlock, masks: dict[str, PackedMask]) -> None:
        """From now on the block is finished. `masks` is emptied if they are stored elsewhere."""

    def release(self, index: int) -> None:
        """The block's weights are needed no more."""


class HeldBlocks:
    """The blocks of a model that stays in memory: there is nothing to fetch, keep or release."""

    def finished(self, index: int) -> FinishedBlock | None:
        """None: every block is to be pruned."""
        return None

    def fetch(self, index: int) -> None:
        """Nothing."""

    def keep(self, index: int) -> None:
        """Nothing."""

    def finish(self, index: int, block: FinishedBlock, masks: dict[str, PackedMask]) -> None:
        """Nothing."""

    def release(self, index: int) -> None:
        """Nothing."""


@contextmanager
def at_work(
    store: BlockStore, index: int, block: nn.Module, device: torch.device | str
) -> Iterator[None]:
    """The block has its weights, on the device, until this is left."""
    store.fetch(index)
    home = next(block.parameters()).device
    block.to(device)
    yield
    block.to(home)
    store.release(index)
