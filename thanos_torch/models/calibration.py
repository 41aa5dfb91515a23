"""Running decoder blocks one by one, and the Gram matrices of their layers' inputs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from thanos_torch.gram import Gram

# Tokens that go through a block at one time: enough to keep a CPU busy.
BATCH_TOKENS = 1024


def batches(windows: Tensor) -> Iterator[Tensor]:
    """Windows of token ids, (windows, seqlen), in portions of about BATCH_TOKENS tokens."""
    rows = max(1, BATCH_TOKENS // windows.shape[1])
    for start in range(0, len(windows), rows):
        yield windows[start : start + rows]


class _FirstBlockReached(Exception):  # noqa: N818
    """A signal, no error: leave the model, the first block's input is known."""


class Activations:
    """The hidden states between two decoder blocks, and the arguments that blocks share.

    states  one (windows, seqlen, hidden) tensor a batch; `advance` replaces them in place
    """

    def __init__(self, model: nn.Module, first: nn.Module, windows: Tensor) -> None:
        self.states: list[Tensor] = []
        self._arguments: list[dict[str, Any]] = []

        def catch(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            states, *rest = args or (kwargs["hidden_states"],)
            if rest:
                raise ValueError(f"{type(first).__name__} takes positional arguments: not known")
            self.states.append(states)
            self._arguments.append({k: v for k, v in kwargs.items() if k != "hidden_states"})
            raise _FirstBlockReached

        handle = first.register_forward_pre_hook(catch, with_kwargs=True)
        try:
            for batch in batches(windows):
                try:
                    model(batch.to(next(model.parameters()).device), use_cache=False)
                except _FirstBlockReached:
                    continue
        finally:
            handle.remove()

    def run(self, block: nn.Module) -> Iterator[Tensor]:
        """The block's output for every batch."""
        for states, arguments in zip(self.states, self._arguments, strict=True):
            output = block(states, **arguments)
            # Decoder blocks returned a tuple before Transformers 5, and a tensor since.
            yield output[0] if isinstance(output, tuple) else output

    def advance(self, block: nn.Module) -> None:
        """Go on to behind the block."""
        for index, output in enumerate(self.run(block)):
            self.states[index] = output


@torch.no_grad()
def collect_grams(
    activations: Activations, block: nn.Module, layers: dict[str, nn.Linear]
) -> dict[str, Gram]:
    """A Gram matrix for every layer of the block; layers that share an input share the object.

    A layer that no token reaches is missing.
    """
    grams: dict[str, Gram] = {}
    with _gram_hooks(layers, grams) as next_batch:
        for _ in activations.run(block):
            next_batch()
    return grams


@contextmanager
def _gram_hooks(
    layers: dict[str, nn.Linear], grams: dict[str, Gram]
) -> Iterator[Callable[[], None]]:
    """Hooks that fill `grams`; call what is yielded after every batch."""
    # Inputs of this batch and their Gram matrices. Holding the tensors keeps their ids unique.
    seen: dict[int, tuple[Tensor, Gram]] = {}

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def look(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
            batch = args[0]
            if id(batch) in seen:  # q, k and v read one tensor, gate and up another
                gram = seen[id(batch)][1]
                if grams.setdefault(name, gram) is not gram:
                    raise ValueError(f"{name} shares its input in some batches only")
                return
            if name not in grams:
                grams[name] = Gram(batch.shape[-1], device=batch.device)
            grams[name].add(batch)
            seen[id(batch)] = (batch, grams[name])

        return look

    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers.items()]
    try:
        yield seen.clear
    finally:
        for handle in handles:
            handle.remove()
