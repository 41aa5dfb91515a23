"""Run a model's own forward pass one decoder block at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from thanos_torch.network.activations import Activations
from thanos_torch.network.handed import Surroundings, Written, copied
from thanos_torch.runtime.errors import in_one_line
from thanos_torch.runtime.files import begin
from thanos_torch.runtime.ranks import Ranks

# Tokens that go through a block at one time: enough to keep the cores busy.
BATCH_TOKENS = 2048


@dataclass(frozen=True)
class Handing:
    """What has to be kept of the blocks before one, so that it reads what it reads in the model.

    every    the output of every block, not only of the last one: the model's code between the
             blocks adds earlier outputs
    written  what blocks write besides, as keys and values for later ones

    The state for a batch is an output if neither is needed; else the outputs, and what was written.
    """

    every: bool = False
    written: bool = False

    def after(self, state: Any, output: Any, written: Sequence[Written]) -> Any:
        """The state behind one block more; `state` is None before the first one."""
        if not (self.every or self.written):
            return output
        outputs, entries = state or ((), ())
        known = {tuple(path): (tuple(path), *rest) for path, *rest in entries}
        known |= {entry.path: (entry.path, entry.in_place, entry.value) for entry in written}
        return (*outputs, output) if self.every else (output,), tuple(known.values())

    def outputs(self, state: Any, count: int) -> Sequence[Any]:
        """What each of the `count` blocks before the one at work returns.

        Copies, because models may change what a block returned in place.
        """
        if self.every or not count:
            return state[0] if count else ()
        last = state[0][0] if self.written else state
        return [*[copied(last)] * (count - 1), copied(last)]

    def entries(self, state: Any) -> list[Written]:
        """What the blocks before have written."""
        if not self.written or state is None:
            return []
        return [Written(tuple(path), in_place, value) for path, in_place, value in state[1]]


class _BlockDone(BaseException):
    """Not an error: leaves the model's forward pass with what the block at work made."""

    def __init__(self, output: Any, written: list[Written]) -> None:
        self.output, self.written = output, written


class BlockReplay:
    """Runs single decoder blocks on calibration windows, in the order of the model.

    It calls the model itself. Earlier blocks do not run again: they return their stored output.
    After the block at work, an exception leaves the model. So every block gets exactly the
    arguments that its model passes, such as masks and positions, and blocks may return tensors or,
    as before Transformers 5, tuples.
    """

    def __init__(
        self,
        model: nn.Module,
        blocks: Mapping[str, nn.Module],
        handing: Handing,
        windows: Sequence[Tensor],
        device: torch.device | str,
        activations: Activations | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        """Prepare the batches of calibration windows.

        blocks       in the order in which they run
        windows      token ids, for each length of windows (number, length)
        device       where the block at work is
        activations  where outputs are kept; in memory if not given
        ranks        processes that share the windows: this one runs its share of the batches
        """
        self._model, self._device, self._handing = model, device, handing
        self._blocks = list(blocks.items())
        self._modules = dict(model.named_modules()) if handing.written else {}
        self.activations = activations or Activations()
        self._home = next(weight.device for weight in model.parameters() if not weight.is_meta)
        ranks = ranks or Ranks()
        # So few windows in a batch that every rank has a batch.
        most = sum(map(len, windows)) // ranks.count
        batches = [
            batch
            for group in windows
            for batch in group.split(max(1, min(BATCH_TOKENS // group.shape[1], most)))
        ]
        self.batches = {n: batches[n].to(self._home) for n in ranks.share(len(batches))}

    def run(self, position: int) -> Iterator[Any]:
        """Run a block on every batch, from the states of the last `advance`; yields new states."""
        for number, batch in self.batches.items():
            begin("calibration")
            state = self.activations.read(number)
            yield self._handing.after(state, *self.run_batch(position, batch, state))

    def advance(self, position: int) -> None:
        """Run a block, and keep its states in place of those before it."""
        for number, state in zip(self.batches, self.run(position), strict=True):
            self.activations.write(number, state)
        self.activations.advance()

    @torch.no_grad()
    def run_batch(self, position: int, batch: Tensor, state: Any) -> tuple[Any, list[Written]]:
        """A block's output, and what it wrote, for a batch and the state before it."""
        entries = [
            Written(entry.path, entry.in_place, copied(entry.value, self._device))
            for entry in self._handing.entries(state)
        ]
        forwards = {
            block: self._answer(output, entries)
            for (_, block), output in zip(
                self._blocks[:position], self._handing.outputs(state, position), strict=True
            )
        }
        name, block = self._blocks[position]
        forwards[block] = self._at_work(block.forward)
        try:
            what = f"{type(self._model).__name__} cannot run its decoder block {name}"
            with in_one_line(what), replaced(forwards):
                self._model(batch, use_cache=False)
        except _BlockDone as done:
            return done.output, done.written
        raise ValueError(f"{type(self._model).__name__} does not run its decoder block {name}")

    def _answer(self, output: Any, entries: list[Written]) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            if entries:
                Surroundings(self._modules, args, kwargs).write(entries)
            # The model's own code adds them to what it has where it is itself.
            return copied(output, self._home) if self._handing.every else output

        return forward

    def _at_work(self, own: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            args, kwargs = _moved(args, self._device), _moved(kwargs, self._device)
            around = Surroundings(self._modules, args, kwargs)
            if self._handing.written:
                around.remember()
            output = own(*args, **kwargs)
            raise _BlockDone(output, around.written() if self._handing.written else [])

        return forward


@contextmanager
def replaced(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Let modules run other functions in place of their forward pass."""
    own = {module: vars(module).get("forward") for module in forwards}  # set by other tools
    for module, forward in forwards.items():
        module.forward = forward
    try:
        yield
    finally:
        for module, before in own.items():
            del module.forward
            if before is not None:
                module.forward = before


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
def keep_rows(embedding: nn.Embedding, tokens: Tensor, whole: Callable[[], None]) -> None:
    """Keep only the embedding's rows of `tokens`; looking these up gives the same as before.

    Calibration reads a fraction of the vocabulary, and the table stays in memory during the run.
    If a model looks up another token or passes ids in another way, `whole` reads the table again:
    it finds a parameter of the full shape, on the meta device.
    """
    known = tokens.unique()
    expected = embedding(known)
    empty = torch.empty_like(embedding.weight, device="meta")
    size, padding = embedding.num_embeddings, embedding.padding_idx

    def restore() -> None:
        hook.remove()
        embedding.weight = nn.Parameter(empty, requires_grad=False)
        embedding.num_embeddings, embedding.padding_idx = size, padding
        whole()

    def renumber(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, ...] | None:
        if len(args) != 1 or kwargs or not torch.isin(args[0], known.to(args[0])).all():
            restore()
            return None
        ids = torch.searchsorted(known.to(args[0]), args[0])
        return (ids,), kwargs

    embedding.weight = nn.Parameter(embedding.weight[known], requires_grad=False)
    embedding.num_embeddings = len(known)
    embedding.padding_idx = None  # matters for gradients alone
    hook = embedding.register_forward_pre_hook(renumber, with_kwargs=True)
    if not torch.equal(embedding(known), expected):  # it does more with ids than look them up
        restore()
