"""Run a model's own forward pass one decoder block at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from thanos_torch.network.activations import Activations
from thanos_torch.network.layers import decoder_blocks
from thanos_torch.runtime.errors import in_one_line
from thanos_torch.runtime.files import begin
from thanos_torch.runtime.ranks import Ranks

# Tokens that go through a block at one time: enough to keep the cores busy.
BATCH_TOKENS = 2048


class _BlockDone(BaseException):
    """Not an error: leaves the model's forward pass with the output of the block that ran."""

    def __init__(self, output: Any) -> None:
        self.output = output


class BlockReplay:
    """Runs single decoder blocks on calibration windows, in the order of the model.

    It calls the model itself. Earlier blocks do not run again: they return the stored output of the
    last one. After the block at work, an exception leaves the model. So every block gets exactly
    the arguments that its model passes, such as masks and positions, and blocks may return tensors
    or, as before Transformers 5, tuples.
    """

    def __init__(
        self,
        model: nn.Module,
        windows: Tensor,
        device: torch.device | str,
        activations: Activations | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        """Prepare the batches of calibration windows.

        windows      (nsamples, seqlen) token ids
        device       where the block at work is
        activations  where outputs are kept; in memory if not given
        ranks        processes that share the windows: this one runs its share of the batches
        """
        self._model, self._device = model, device
        self._prefix, self._blocks = decoder_blocks(model)
        self.activations = activations or Activations()
        home = next(weight.device for weight in model.parameters() if not weight.is_meta)
        ranks = ranks or Ranks()
        # So few windows in a batch that every rank has a batch.
        rows = min(BATCH_TOKENS // windows.shape[1], len(windows) // ranks.count)
        batches = windows.split(max(1, rows))
        self.batches = {n: batches[n].to(home) for n in ranks.share(len(batches))}

    def run(self, index: int) -> Iterator[Any]:
        """The output of block `index` for every batch, from the outputs of the last `advance`."""
        for number, batch in self.batches.items():
            begin("calibration")
            yield self._run_batch(index, batch, self.activations.read(number))

    def advance(self, index: int) -> None:
        """Run block `index`, and keep its outputs in place of the block's before it."""
        for number, output in zip(self.batches, self.run(index), strict=True):
            self.activations.write(number, output)
        self.activations.advance()

    @torch.no_grad()
    def _run_batch(self, index: int, batch: Tensor, stored: Any) -> Any:
        block = self._blocks[index]
        hooks = (
            block.register_forward_pre_hook(self._move_arguments, with_kwargs=True),
            block.register_forward_hook(_leave),
        )
        name = f"{type(self._model).__name__} cannot run its decoder block {self._prefix}.{index}"
        try:
            with in_one_line(name), _answering(self._blocks[:index], stored):
                self._model(batch, use_cache=False)
        except _BlockDone as done:
            return done.output
        finally:
            for hook in hooks:
                hook.remove()
        raise ValueError(f"{type(self._model).__name__} does not run its decoder block {index}")

    def _move_arguments(
        self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return _moved(args, self._device), _moved(kwargs, self._device)


def _leave(block: nn.Module, args: tuple[Any, ...], output: Any) -> None:
    raise _BlockDone(output)


@contextmanager
def _answering(blocks: nn.ModuleList, output: Any) -> Iterator[None]:
    """Let blocks return `output` instead of running."""
    own = [vars(block).get("forward") for block in blocks]  # seldom there: set by other tools
    for block in blocks:
        block.forward = lambda *args, **kwargs: output
    try:
        yield
    finally:
        for block, forward in zip(blocks, own, strict=True):
            del block.forward
            if forward is not None:
                block.forward = forward


def _moved(value: Any, device: torch.device | str) -> Any:
    """`value` with every tensor in it on `device`."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _moved(part, device) for key, part in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_moved(part, device) for part in value)
    return value


@torch.no_grad()
def keep_rows(embedding: nn.Embedding, tokens: Tensor) -> None:
    """Keep only the embedding's rows of `tokens`; looking these up gives the same as before.

    Calibration reads a fraction of the vocabulary, and the table stays in memory during the run.
    """
    known = tokens.unique()
    embedding.weight = nn.Parameter(embedding.weight[known], requires_grad=False)
    embedding.num_embeddings = len(known)
    embedding.padding_idx = None  # matters for gradients alone

    def renumber(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Any, ...]:
        return torch.searchsorted(known.to(args[0].device), args[0]), *args[1:]

    embedding.register_forward_pre_hook(renumber)
