"""Wanda and magnitude pruning as the authors of Wanda published them: `lib/prune.py`.

Their functions prune the blocks of a model. They get a model of one block that holds one linear
layer, and no calibration text. `WrappedGPT.scaler_row`, which their forward hooks sum up, holds the
diagonal of the Gram matrix. It runs on the CPU: `Tensor.cuda` gives the tensor back. The mask is
observed while they set weights to zero.
"""

from types import SimpleNamespace
from typing import Any

import torch
from lib import prune as published

from verification.scoreboard.adapters.layer import Given, Options, adapter
from verification.scoreboard.adapters.observed import Zeroed

torch.Tensor.cuda = lambda self, *_: self  # type: ignore[method-assign]


class Block(torch.nn.Module):
    """A block of a model that holds one linear layer."""

    def __init__(self, layer: torch.nn.Linear) -> None:
        super().__init__()
        self.layer = layer


def _model(block: Block) -> Any:
    return SimpleNamespace(
        config=SimpleNamespace(use_cache=False),
        model=SimpleNamespace(layers=[block]),
        hf_device_map={},
        seqlen=1,
        name_or_path="",
    )


def _arguments(asked: Options) -> Any:
    return SimpleNamespace(sparsity_ratio=asked.sparsity, nsamples=0, seed=0, use_variant=False)


@adapter("unstructured", "n:m")
def wanda(given: Given) -> tuple[torch.Tensor, torch.Tensor]:
    """Prune with `prune_wanda`, whose scores use the norms of the inputs."""
    asked, layer = given.asked, given.layer

    class Known(published.WrappedGPT):  # type: ignore[misc]
        """Statistics of a layer that are known."""

        def __init__(self, *own: Any, **more: Any) -> None:
            super().__init__(*own, **more)
            self.scaler_row = given.gram.diagonal().clone()

    own, published.WrappedGPT = published.WrappedGPT, Known
    published.get_loaders = lambda *_, **__: ([], None)
    published.prepare_calibration_input = lambda *_: ([], [], None, None)
    try:
        with Zeroed(given.rows) as zeroed:
            published.prune_wanda(
                _arguments(asked), _model(Block(layer)), None, prune_n=asked.n, prune_m=asked.m
            )
    finally:
        published.WrappedGPT = own
    return layer.weight, zeroed.mask()


@adapter("unstructured", "n:m")
def magnitude(given: Given) -> tuple[torch.Tensor, torch.Tensor]:
    """Prune with `prune_magnitude`."""
    asked, layer = given.asked, given.layer
    with Zeroed(given.rows) as zeroed:
        published.prune_magnitude(
            _arguments(asked), _model(Block(layer)), None, prune_n=asked.n, prune_m=asked.m
        )
    return layer.weight, zeroed.mask()
