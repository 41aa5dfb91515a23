"""Fused experts of a mixture: how they have to run while their inputs are watched."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from thanos_torch.network.layers import PrunableLayer


@contextmanager
def looping_experts(layers: Iterable[PrunableLayer]) -> Iterator[None]:
    """Let Transformers compute expert by expert, because its faster ways mix the experts' inputs.

    The outputs are the same up to rounding. Modules of other libraries are left as they are.
    """
    configs: dict[int, Any] = {}
    for layer in layers:
        config = getattr(layer.module, "config", None)
        if hasattr(config, "_experts_implementation"):
            configs[id(config)] = config
    before = [(config, config._experts_implementation) for config in configs.values()]
    try:
        for config, _ in before:
            config._experts_implementation = "eager"
        yield
    finally:
        for config, implementation in before:
            config._experts_implementation = implementation
