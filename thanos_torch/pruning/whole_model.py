"""Prune a model decoder block by decoder block, on one process or several."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from reference.patterns import Ablation, Pattern, column_blocks
from thanos_torch.checkpoint.masks import PackedMask
from thanos_torch.checkpoint.record import Judge, LayerRecord, ModelReport, PrunedLayer, RankShare
from thanos_torch.methods.checks import Checks
from thanos_torch.methods.devices import is_host
from thanos_torch.methods.factor import FactorCache
from thanos_torch.network.activations import Activations
from thanos_torch.network.grams import InputGrams, hidden_weight
from thanos_torch.network.kind import refuse_encoder_decoder
from thanos_torch.network.layers import (
    PrunableLayer,
    layer_kind,
    shared_weights,
)
from thanos_torch.network.memory import repeats
from thanos_torch.network.observe import Observation, evaluating, observe
from thanos_torch.pruning.kept_grams import GramWriter
from thanos_torch.pruning.one_layer import Solved, finish, receive, start, store_weight
from thanos_torch.pruning.plan import (
    PAPER,
    Choice,
    Dense,
    Plan,
    Rules,
    begin_report,
    default_judge,
    rules_for,
)
from thanos_torch.pruning.store import BlockStore, FinishedBlock
from thanos_torch.runtime.arguments import check_device, checked
from thanos_torch.runtime.clock import Stopwatch
from thanos_torch.runtime.errors import in_one_line
from thanos_torch.runtime.files import begin
from thanos_torch.runtime.ranks import Ranks, host
from thanos_torch.text.bos import warn_lacking_bos
from thanos_torch.text.padding import real_windows

STAGES = ("calibration", "gram", "pruning", "errors", "certificates")


@checked("windows", "pattern", "attention_mask")
@torch.inference_mode(False)  # in it, nothing could be changed in place afterwards
def prune_model(
    model: nn.Module,
    windows: Tensor,
    pattern: str | Pattern | Rules,
    *,
    judge: Judge | None = default_judge,
    method: str = "thanos",
    block_size: int = 128,
    damping: float = 0.01,
    refit_steps: int = 0,
    ablation: Ablation = PAPER,
    device: torch.device | str = "cpu",
    solver_device: torch.device | str | None = None,
    on_layer: Callable[[PrunedLayer], None] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    only: Callable[[int], bool] | None = None,
    ranks: Ranks | None = None,
    attention_mask: Tensor | None = None,
) -> ModelReport:
    """Prune all layers in the decoder blocks of a causal language model, in place.

    model        a Hugging Face causal LM with all of its weights in memory; it is in evaluation
                 mode during the run
    windows      (nsamples, seqlen) token ids to calibrate with
    pattern      for all layers, also as text: "2:4"; or rules, which say for each layer what
                 `method` to `ablation` say for all: these are ignored then
    judge        certifies every layer; None leaves the model uncertified
    method       thanos, magnitude, wanda or sparsegpt; block_size and damping as for those
    refit_steps  steps of `refit` after each layer, 0 for none
    ablation     switches of thanos that make it another algorithm than the paper's
    device       where the decoder block at work is held, pruned and judged
    solver_device  where layers are pruned and judged, by default where they are held; the CPU is
                 for a GPU that has no room for a layer in float64, or is slow in it
    on_layer     called with every layer once it is pruned
    progress     called with what is being done, the layers done, and their number
    only         decides by a decoder block's index whether it is pruned; others stay dense and
                 are recorded so
    ranks        the processes that share the work, each with the same model and arguments; only
                 the first one's `on_layer` is called, and only its report holds masks
    attention_mask  (nsamples, seqlen) for windows that are padded before or behind their tokens: 1
                 or True for tokens, 0 or False for padding. The model reads every window without
                 its padding, which is in no statistics

    Each block is calibrated with the outputs of the pruned blocks before it. Raises ValueError:
    before anything changes if the arguments do not fit the model; later, naming the layer and
    leaving the model half-pruned, if a layer's calibration or weights are not finite.
    """
    rules = rules_for(
        pattern,
        method=method,
        block_size=block_size,
        damping=damping,
        refit_steps=refit_steps,
        ablation=ablation,
    )
    check_device(device)
    check_device(solver_device or device, "solver_device")
    refuse_parts(model)
    if isinstance(windows, Tensor) and windows.is_inference():
        windows = windows.clone()
    groups = [each.ids for each in real_windows(model, windows, attention_mask, "windows")]
    warn_lacking_bos(model, groups)
    seen, plan = plan_for(model, groups[0], rules)
    run = PruningRun(
        seen,
        groups,
        plan,
        judge,
        rules=rules,
        device=device,
        solver_device=solver_device,
        on_layer=on_layer,
        progress=progress,
        only=only,
        ranks=ranks or Ranks(),
    )
    if isinstance(on_layer, GramWriter) and run.ranks.first:
        on_layer.open()  # refuses an occupied folder before anything is calculated
    return run.execute()


def plan_for(model: nn.Module, windows: Tensor, rules: Rules) -> tuple[Observation, Plan]:
    """What the model does, and what is done to each layer; weights may be on the meta device.

    windows  (number, length) without padding, of `real_windows`

    Raises ValueError if the rules do not fit the model, if the model cannot be run block by block,
    or if a layer to be pruned cannot be.
    """
    refuse_encoder_decoder(getattr(model, "config", None), type(model).__name__)
    with in_one_line(f"{type(model).__name__} cannot be looked into"):
        seen = observe(model, windows)
    layers = {name: layer for group in seen.layers for name, layer in group.items()}
    plan = rules.plan({name: layer.shape for name, layer in layers.items()})
    chosen = {n: each for n, each in layers.items() if not isinstance(plan[n], Dense)}
    shared, adapters = shared_weights(model, layers), _adapters(model)
    for name, layer in chosen.items():
        if layer.computed:
            raise ValueError(
                f"{layer.parameter} is no parameter but computed from others, as by "
                f"torch.nn.utils.parametrize, weight_norm or prune: remove that, or exclude {name}"
            )
        if name in shared:
            raise ValueError(
                f"{shared[name]} and {name} share one weight, which cannot be pruned: exclude both"
            )
        if operation := seen.hidden.get(layer.parameter):
            raise ValueError(f"{hidden_weight(layer.parameter, operation)}; exclude {name}")
        if f"{name}.".startswith(adapters):
            raise ValueError(
                f"{name} is part of an adapter around another layer: merge the adapter into the "
                f"weights first, or exclude {name}"
            )
    return seen, plan


def _adapters(model: nn.Module) -> tuple[str, ...]:
    """Starts of the names of what adapters such as LoRA put around layers, beside the layers."""
    return tuple(
        f"{name}.{part}."
        for name, module in model.named_modules()
        if isinstance(getattr(module, "base_layer", None), nn.Module)
        for part, _ in module.named_children()
        if part != "base_layer"
    )


def refuse_parts(model: nn.Module) -> None:
    """Raise ValueError if a model's weights are not all here, whole, and each in its own place."""
    for name, weight in model.named_parameters():
        if weight.is_inference():
            raise ValueError(
                f"model: {name} was made under torch.inference_mode and cannot be changed: load "
                "the model outside of it"
            )
        if not weight.is_meta and repeats(weight):
            raise ValueError(
                f"model: {name} shows one number in several places, as after expand: clone it"
            )
        if weight.is_meta:
            raise ValueError(
                f"model: {name} is not in memory but on the meta device, as with device_map and "
                "offloading: load the model without, or prune its folder with prune_checkpoint"
            )
        if hasattr(weight, "device_mesh") or hasattr(weight, "ds_id"):
            raise ValueError(
                f"model: {name} is a shard of a weight (a {type(weight).__name__}), as under FSDP, "
                "tensor parallelism or ZeRO: prune the model before it is sharded"
            )
    for name, module in model.named_modules():
        if type(module).__name__ == "FullyShardedDataParallel":
            raise ValueError(
                f"model: {name or 'it'} is wrapped by FullyShardedDataParallel, which holds shards "
                "of its weights: prune the model before it is wrapped"
            )


@dataclass
class PruningRun:
    """One pruning run over a model, alone or on several ranks; options as of `prune_model`.

    seen, plan   of `plan_for`
    windows      without padding, for each length (number, length)
    rules        what the plan was made of; they tell which other weights nobody excluded
    store        where blocks come from; some may be finished already
    activations  outputs of finished blocks, or of some of them: the rest is computed again
    dtype        what pruned weights are rounded to; None for each layer's own
    report       what has come of the run so far
    """

    seen: Observation
    windows: Sequence[Tensor]
    plan: Plan
    judge: Judge | None
    rules: Rules = field(default_factory=Rules)
    store: BlockStore = field(default_factory=BlockStore)
    activations: Activations = field(default_factory=Activations)
    dtype: torch.dtype | None = None
    device: torch.device | str = "cpu"
    solver_device: torch.device | str | None = None
    on_layer: Callable[[PrunedLayer], None] | None = None
    progress: Callable[[str, int, int], None] | None = None
    only: Callable[[int], bool] | None = None
    ranks: Ranks = field(default_factory=Ranks)
    report: ModelReport = field(init=False)

    def __post_init__(self) -> None:
        self._blocks, self._layers = list(self.seen.blocks.values()), self.seen.layers
        alone = self.ranks.count == 1
        self._watch = Stopwatch(self.device, STAGES if alone else (*STAGES, "exchange"))
        self.report = begin_report(self.seen, self.rules, self._watch.seconds)
        self._replay = self.seen.replay(self.windows, self.device, self.activations, self.ranks)

    @torch.no_grad()
    def execute(self) -> ModelReport:
        """Prune every block that is not finished, in place."""
        with evaluating(self.seen.model):
            return self._execute()

    def _execute(self) -> ModelReport:
        if self.ranks.count > 1:
            shares = self.ranks.gather([host(), len(self._replay.batches)])
            self.report.ranks = [RankShare(*share) for share in shares]
        count = len(self._blocks)
        last = max((n for n in range(count) if not self.store.finished(n)), default=-1)
        start = min(self.ranks.gather(self.activations.position))
        for index, block in enumerate(self._blocks):
            finished = self.store.finished(index)
            if finished:
                self.report.take(finished.layers, finished.seconds, finished.shares)
            # Finished blocks run again where the outputs that the next one reads are missing.
            if not finished or start <= index < last:
                with self.store.at_work(index, block, self.device):
                    if index < last and not is_host(self.device):
                        self.store.prefetch(index + 1, self.device)
                    self._process(index, block, advance=index < last)
        self._show("done")
        return self.report

    def _process(self, index: int, block: nn.Module, *, advance: bool) -> None:
        """Prune a block unless it is finished, and compute its outputs if they are needed."""
        known, before = len(self.report.layers), dict(self._watch.seconds)
        finished = self.store.finished(index)
        if not finished:
            self._prune_block(index)
            self.store.keep(index)
        self.ranks.copy_from_first(block.state_dict().values())
        if advance and self.activations.position <= index:
            with self._watch.stage("calibration"):
                self._replay.advance(index)
        if not finished:
            seconds = self._watch.seconds
            self._finish(index, known, {stage: seconds[stage] - before[stage] for stage in seconds})

    def _prune_block(self, index: int) -> None:
        """Calibrate a block with the outputs of the pruned blocks before it; prune its layers."""
        layers = self._layers[index]
        if self.only and not self.only(index):
            for name, layer in layers.items():
                why = "its block was not chosen"
                record = LayerRecord(name, layer.shape, left_dense=why, asked_dense=True)
                self.report.layers.append(record)
            return
        self._show(f"block {index}: calibration")
        wanted = {n: each for n, each in layers.items() if not isinstance(self.plan[n], Dense)}
        with self._watch.stage("calibration"), self._inputs(wanted) as inputs:
            for _ in self._replay.run(index) if wanted else ():
                inputs.next_batch()
        inputs.pool(self.ranks)
        if self.ranks.count == 1:
            for name, solved in self._solved(index, inputs):
                self._take(layers[name], solved)
                inputs.forget(name)
                del solved  # before the next layer is solved
        else:
            self._share(index, inputs)

    def _inputs(self, layers: Mapping[str, PrunableLayer]) -> InputGrams:
        return InputGrams(layers, self._watch, self.seen.multiplied)

    def _solved(self, index: int, inputs: InputGrams) -> Iterator[tuple[str, Solved]]:
        """Solve this rank's layers of a block: one by one, or on a device all before one look."""
        layers, done = self._layers[index], len(self.report.layers)
        owners = dealt(layers, self.plan, self.ranks.count)
        own = [name for name in layers if owners[name] == self.ranks.rank]
        at_once = 1 if is_host(self.solver_device or self.device) else max(1, len(own))
        places = {name: done + number for number, name in enumerate(layers)}
        factors = FactorCache()  # layers that read the same input have the same Gram matrix
        for first, end in column_blocks(len(own), at_once):
            checks, started = Checks(), []
            for name in own[first:end]:
                self._show(f"block {index}: {layer_kind(name)}", places[name])
                begin("solve")
                gram, choice = inputs.matrix(name, checks), self.plan[name]
                device = self.solver_device
                started.append(
                    start(layers[name], choice, gram, self._watch, factors, checks, device)
                )
                del gram
            with self._watch.stage("pruning"):
                checks.look()
            for name in own[first:end]:
                solved = finish(started.pop(0), self.judge, self._watch)
                solved.record.rank = self.ranks.rank
                yield name, solved
                del solved  # before the next layer is judged

    def _share(self, index: int, inputs: InputGrams) -> None:
        """Prune a block's layers together with the other ranks.

        Every layer is pruned by one rank, by the code and from the numbers of a process alone, so
        its result is the same bit for bit. Only the first rank's model is changed. All ranks raise
        the ValueError of any of them, which names the layer.
        """
        layers, ranks = self._layers[index], self.ranks
        owners = dealt(layers, self.plan, ranks.count)
        own: dict[str, Solved] = {}

        def solve_own() -> dict[str, Any]:
            own.update(self._solved(index, inputs))
            return {name: solved.facts() for name, solved in own.items()}

        facts = ranks.agree(solve_own)
        with self._watch.stage("exchange"):
            for name, layer in layers.items():
                owner, solved = owners[name], own.get(name)
                if ranks.first:
                    if solved is None:
                        sent, gram = facts[owner][name], inputs.matrix(name)
                        solved = receive(ranks, owner, layer, self.plan[name], gram, sent)
                    self._take(layer, solved)
                elif solved:
                    solved.send(ranks)
                inputs.forget(name)

    def _take(self, layer: PrunableLayer, solved: Solved) -> None:
        """Record a layer, and put its pruned weight into the model."""
        record, result = solved.record, solved.result
        self.report.layers.append(record)
        if result is None:
            return
        record.stored_exactly = store_weight(layer, result.pruned.weight, self.dtype)
        self.report.masks[record.name] = PackedMask.of(result.pruned.mask)
        if self.on_layer:
            self.on_layer(result)

    def _finish(self, index: int, known: int, spent: dict[str, float]) -> None:
        """Record a block as finished: on the first rank, whose word the others then take for it.

        known  how many layers were in the report before this block
        spent  seconds by stage
        """
        ranks, layers, masks = self.ranks, self.report.layers, self.report.masks
        # Nobody goes on from a block that others have no outputs of: this waits for all of them.
        shares = ranks.gather(spent) if ranks.count > 1 else []
        done = FinishedBlock(layers[known:], spent, shares)

        def finish() -> dict[str, Any]:
            self.store.finish(index, done, masks)
            return done.as_dict()

        told = FinishedBlock.from_dict(ranks.from_first(finish))
        if not ranks.first:
            self.store.finish(index, told, masks)
        self.activations.drop_older()
        layers[known:] = told.layers
        self.report.count(told.shares)

    def _show(self, note: str, done: int | None = None) -> None:
        """Report progress; `done` counts layers, those of the report if not given."""
        if self.progress:
            total = sum(len(group) for group in self._layers)
            self.progress(note, len(self.report.layers) if done is None else done, total)


def dealt(layers: Mapping[str, PrunableLayer], plan: Plan, count: int) -> dict[str, int]:
    """The rank of each layer: the most expensive first, each to the rank with least work so far."""
    load = [0] * count
    owners: dict[str, int] = {}
    for name in sorted(layers, key=lambda each: -_work(layers[each], plan[each])):
        rank = load.index(min(load))
        load[rank] += _work(layers[name], plan[name])
        owners[name] = rank
    return owners


def _work(layer: PrunableLayer, choice: Choice) -> int:
    """Work, proportional to FLOPs: factorise H (b³) and multiply the weight by it (c b²)."""
    rows, columns = layer.shape
    return 0 if isinstance(choice, Dense) else columns**2 * (rows + columns)
