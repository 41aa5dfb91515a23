"""Watch one plain forward pass of the dense model: which blocks and layers run, and on what."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from thanos_torch.network.activations import Activations
from thanos_torch.network.experts import looping_experts
from thanos_torch.network.grams import InputGrams, input_key
from thanos_torch.network.handed import Surroundings, Written, copied
from thanos_torch.network.kind import refuse_idle_cross_attention
from thanos_torch.network.layers import (
    PRUNABLE_DTYPES,
    PrunableLayer,
    block_lists,
    decoder_blocks,
    layers_of,
    prunable_layers,
)
from thanos_torch.network.replay import BlockReplay, Handing, replaced
from thanos_torch.network.stand_ins import CHANGES, stand_ins
from thanos_torch.runtime.clock import Stopwatch
from thanos_torch.runtime.errors import in_one_line
from thanos_torch.runtime.ranks import Ranks

_TABLE = " input embedding"
TOKENS = 32  # of the window: enough for every kind of attention to look back
# What blocks hand on, the cheapest first.
_HANDINGS = (Handing(), Handing(written=True), Handing(every=True), Handing(True, True))


@dataclass(frozen=True)
class Observation:
    """What a model does.

    blocks       decoder blocks by name, in the order in which they run
    layers       the prunable layers of each
    reads        the first layer that reads the same input, for layers that were reached
    alone        layers that share some of their inputs with others, but not all
    multiplied   layers whose weight is multiplied outside of their module
    hidden       operations that hide what layers read, by the layers' parameter
    beside       linear weights outside of the blocks that are used between the first and the last
    handing      what replays of single blocks need of earlier ones
    table_alone  whether nothing but the input embedding's own module uses its weight
    """

    model: nn.Module
    blocks: dict[str, nn.Module]
    layers: list[dict[str, PrunableLayer]]
    reads: dict[str, str]
    alone: frozenset[str]
    multiplied: frozenset[str]
    hidden: dict[str, str]
    beside: list[str]
    handing: Handing
    table_alone: bool

    def replay(
        self,
        windows: Sequence[Tensor],
        device: torch.device | str,
        activations: Activations | None = None,
        ranks: Ranks | None = None,
    ) -> BlockReplay:
        """Runs the blocks one by one; arguments as of `BlockReplay`."""
        return BlockReplay(
            self.model, self.blocks, self.handing, windows, device, activations, ranks
        )


@torch.no_grad()
def observe(model: nn.Module, windows: Tensor) -> Observation:
    """Run a model once on the beginning of the first window, (windows, seqlen), and look.

    Weights on the meta device are replaced by random numbers for that time: what a model does with
    its weights does not depend on them. Then every block runs alone once, as it will while the
    model is pruned, and must return what it returned in the whole model.

    Raises ValueError if the model does not run its blocks once each, or if a block cannot be run
    alone, and for what the model raises, in one line.
    """
    window = windows[:1, :TOKENS]
    blocks = decoder_blocks(model)
    layers = {name: each for group in prunable_layers(blocks) for name, each in group.items()}
    experts = [layer.module for layer in layers.values() if layer.expert is not None]
    with evaluating(model), stand_ins(model), looping_experts(experts):
        watch, before = _Pass(model, blocks, layers), _samples(model)
        watch.run(window)
        _refuse_changed(model, before)
        ran = {name: blocks[name] for name in _in_order(model, watch.calls)}
        reads = watch.inputs.reads()
        refuse_idle_cross_attention(model, ran, reads)
        handing = _handing(model, ran, window, watch)
    groups = prunable_layers(ran)
    kept = {name for group in groups for name in group}
    return Observation(
        model=model,
        blocks=ran,
        layers=groups,
        reads={name: first for name, first in reads.items() if name in kept},
        alone=frozenset(watch.inputs.alone() & kept),
        multiplied=frozenset(watch.inputs.through_products & kept),
        hidden=watch.inputs.hidden,
        beside=watch.beside,
        handing=handing,
        table_alone=watch.table_alone,
    )


def _samples(model: nn.Module) -> dict[str, Tensor]:
    """Some numbers of every weight that can be pruned: enough to notice that all were changed."""
    return {
        name: weight[tuple(slice(None, None, -(-size // 64)) for size in weight.shape)].clone()
        for name, weight in model.named_parameters()
        if weight.dtype in PRUNABLE_DTYPES
    }


def _refuse_changed(model: nn.Module, before: Mapping[str, Tensor]) -> None:
    """Raise ValueError if a forward pass changed weights: the next one would do so again."""
    for name, after in _samples(model).items():
        if not torch.equal(after.nan_to_num(), before[name].nan_to_num()):
            raise ValueError(f"{type(model).__name__} {CHANGES}: {name}")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, where dropout does nothing; restore every module's mode."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


class _Inputs(InputGrams):
    """Watches who reads which tensor, also through products, and adds nothing up.

    through_products  layers whose weight was multiplied outside of their module
    hidden            by parameter, the operation that hides what a layer reads
    """

    def __init__(self, layers: Mapping[str, PrunableLayer], table_used: Callable[[], None]) -> None:
        """`table_used` is called when the layer _TABLE is used outside of its module."""
        super().__init__(layers, Stopwatch("cpu", ()), multiplied=layers)
        self._table_used = table_used
        self.through_products: set[str] = set()
        self.hidden: dict[str, str] = {}
        self._readers: dict[object, list[str]] = {}  # of every tensor that was read

    def alone(self) -> set[str]:
        """Layers that share some of what they read but not all, or that read it more often."""
        found: set[str] = set()
        groups: dict[str, frozenset[str]] = {}
        for readers in self._readers.values():
            group = frozenset(readers)
            for name in group:
                often = len(group) > 1 and readers.count(name) > 1
                if often or groups.setdefault(name, group) != group:
                    found.add(name)
        return found

    def reads(self) -> dict[str, str]:
        """The first layer that reads the same input, for layers that were reached."""
        alone = self.alone()
        return {
            name: name if name in alone else next(each for each in readers if each not in alone)
            for readers in self._readers.values()
            for name in readers
        }

    def _look(self, name: str, inputs: Tensor) -> None:
        """Note who reads the inputs."""
        if self._count(name, inputs):
            key = input_key(inputs)
            self._seen.setdefault(key, (name, inputs))
            self._readers.setdefault(key, []).append(name)

    def _multiplied(self, name: str, inputs: Tensor) -> None:
        if self._runs(self._layers[name]):
            return
        if name == _TABLE:
            self._table_used()
        elif self._layers[name].expert is None:
            self.through_products.add(name)
        self._look(name, inputs)

    def refuse(self, parameter: str, operation: str) -> None:
        """Note what is hidden: it matters only for layers that are to be pruned."""
        if parameter == f"{_TABLE}.weight":
            self._table_used()
        else:
            self.hidden.setdefault(parameter, operation)


class _Pass:
    """One plain forward pass of a model, and what was seen.

    calls        names of the blocks, each time that one ran
    outputs      copies of what each block returned
    written      copies of what it wrote besides
    beside       linear weights of modules outside of the blocks that were called after the first
                 block began, and before the last one ended
    table_alone  as in `Observation`
    """

    def __init__(
        self, model: nn.Module, blocks: Mapping[str, nn.Module], layers: dict[str, PrunableLayer]
    ) -> None:
        self._model, self._blocks = model, blocks
        self._modules = dict(model.named_modules())
        self._table = input_table(model)
        self._at_work: list[str] = []
        self._ended = 0
        self._outside: dict[str, int] = {}  # linear weights, and how many blocks had ended
        self.inputs = _Inputs({**layers, **self._table}, self._table_used)
        self._table_uses: list[int] = []
        self.calls: list[str] = []
        self.outputs: dict[str, Any] = {}
        self.written: dict[str, list[Written]] = {}

    @property
    def beside(self) -> list[str]:
        """As in the class."""
        return [name for name, ended in self._outside.items() if ended < self._ended]

    @property
    def table_alone(self) -> bool:
        """As in the class: the output head may use the weight, after the last block."""
        return all(ended == self._ended for ended in self._table_uses)

    def run(self, window: Tensor) -> None:
        """Run the model on a window, (1, tokens)."""
        home = next(self._model.parameters()).device
        forwards = {block: self._watched(name, block) for name, block in self._blocks.items()}
        inside = {id(part) for block in self._blocks.values() for part in block.modules()}
        with ExitStack() as stack:
            for name, module in self._modules.items():
                for layer in layers_of(module, name) if id(module) not in inside else ():
                    hook = module.register_forward_pre_hook(self._called(layer.parameter))
                    stack.callback(hook.remove)
            stack.enter_context(self.inputs)
            stack.enter_context(replaced(forwards))
            stack.enter_context(in_one_line(self._what))
            self._model(window.to(home), use_cache=False)

    def _what(self) -> str:
        """What could not be done, if the pass ends with an error now."""
        where = "to its first block"
        if self._at_work:
            where = f"its decoder block {self._at_work[-1]}"
        elif self.calls:
            where = f"on after its decoder block {self.calls[-1]}"
        return f"{type(self._model).__name__} cannot run {where}"

    def _watched(self, name: str, block: nn.Module) -> Callable[..., Any]:
        own = block.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            if self._at_work:
                raise ValueError(
                    f"{type(self._model).__name__} runs its decoder block {name} inside of "
                    f"{self._at_work[-1]}: only blocks that run one after another can be pruned"
                )
            self.calls.append(name)
            self._at_work.append(name)
            around = Surroundings(self._modules, args, kwargs)
            around.remember()
            output = own(*args, **kwargs)
            self.outputs[name], self.written[name] = copied(output), around.written()
            self._at_work.pop()
            self._ended += 1
            return output

        return forward

    def _called(self, parameter: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            if self.calls:
                self._outside.setdefault(parameter, self._ended)

        return hook

    def _table_used(self) -> None:
        self._table_uses.append(self._ended)


def input_table(model: nn.Module) -> dict[str, PrunableLayer]:
    """The weight of the input embedding, by a name that no layer has; empty if there is none."""
    named: Callable[[], nn.Module] | None = getattr(model, "get_input_embeddings", None)
    try:
        embedding = named() if named else None
    except (AttributeError, NotImplementedError):  # of models that do not say which it is
        embedding = None
    if not isinstance(embedding, nn.Embedding):
        return {}
    return {_TABLE: PrunableLayer(_TABLE, f"{_TABLE}.weight", embedding)}


def _in_order(model: nn.Module, calls: list[str]) -> list[str]:
    """The blocks in the order of their calls. Raises ValueError unless each ran once."""
    kind, lists, counts = type(model).__name__, block_lists(model), Counter(calls)
    lengths = {prefix: len(blocks) for prefix, blocks in lists.items()}
    names = {prefix: [f"{prefix}.{n}" for n in range(many)] for prefix, many in lengths.items()}
    # A list of which no block ran, beside others, is no list of decoder blocks.
    ran = [group for group in names.values() if any(map(counts.get, group))] or names.values()
    labels = {
        name: str(index) if len(lists) == 1 else name
        for group in ran
        for index, name in enumerate(group)
    }
    for name, label in labels.items():
        if counts[name] > 1:
            raise ValueError(
                f"{kind} runs its decoder block {label} {counts[name]} times in one forward pass: "
                "only blocks that run once can be pruned"
            )
    for name, label in labels.items():
        if not counts[name]:
            raise ValueError(f"{kind} does not run its decoder block {label}")
    return calls


def _handing(
    model: nn.Module, blocks: dict[str, nn.Module], window: Tensor, watch: _Pass
) -> Handing:
    """What blocks have to hand on, so that each one alone returns what it did in the whole model.

    Raises ValueError, naming the block, if nothing that can be kept is enough.
    """
    kind, failed = type(model).__name__, ValueError()
    # What blocks leave in modules stays there after the pass, so that runs alone seem to go well.
    left = any(entry.path[0] == "modules" for each in watch.written.values() for entry in each)
    for handing in _HANDINGS:
        if left and not handing.written:
            continue
        found = _why_not_alone(model, blocks, window, watch, handing)
        if not found:
            return handing
        failed = found
    watch.outputs, expected = {}, watch.outputs
    watch.run(window)
    for name in blocks:
        if not _alike(watch.outputs[name], expected[name]):
            raise ValueError(
                f"{kind}: its decoder block {name} returns something else each time that the model "
                "runs: only models without chance, and without memory of earlier runs, are pruned"
            )
    reason = str(failed).removeprefix(f"{kind} ")
    raise ValueError(
        f"{kind}: {reason}: it reads more of earlier blocks than what they return and write, so it "
        "cannot be run alone"
    ) from failed.__cause__


def _why_not_alone(
    model: nn.Module, blocks: dict[str, nn.Module], window: Tensor, watch: _Pass, handing: Handing
) -> ValueError | None:
    """Which block, run alone, does not do what it did in the whole model; None if all do."""
    home = next(model.parameters()).device
    replay, state = BlockReplay(model, blocks, handing, [window], home), None
    for position, name in enumerate(blocks):
        try:
            output, _ = replay.run_batch(position, replay.batches[0], state)
        except ValueError as error:
            return error
        if not _alike(output, watch.outputs[name]):
            return ValueError(
                f"its decoder block {name} returns something else when it is run alone"
            )
        state = handing.after(state, watch.outputs[name], watch.written[name])
    return None


def _alike(found: Any, expected: Any) -> bool:
    """Whether two outputs are the same, apart from the order of sums on some devices."""
    if isinstance(expected, Tensor):
        if not isinstance(found, Tensor) or found.shape != expected.shape:
            return False
        if not expected.is_floating_point():
            return torch.equal(found, expected)
        limit = 8 * torch.finfo(expected.dtype).eps * expected.abs().amax().nan_to_num(0).item()
        return torch.allclose(found, expected, rtol=0, atol=limit, equal_nan=True)
    if isinstance(expected, tuple | list):
        return len(found) == len(expected) and all(map(_alike, found, expected))
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(
            _alike(found[key], value) for key, value in expected.items()
        )
    return True
