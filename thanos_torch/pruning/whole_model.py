"""Prune a model decoder block by decoder block, on one process or several."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from reference.patterns import Ablation, Pattern
from thanos_torch.checkpoint.masks import PackedMask
from thanos_torch.checkpoint.record import Judge, LayerRecord, ModelReport, PrunedLayer, RankShare
from thanos_torch.methods.factor import shared_factors
from thanos_torch.methods.result import Diagnostics, Pruned
from thanos_torch.network.activations import Activations
from thanos_torch.network.grams import InputGrams
from thanos_torch.network.layers import (
    PrunableLayer,
    decoder_blocks,
    layer_shapes,
    other_weights,
    prunable_layers,
)
from thanos_torch.network.replay import BlockReplay
from thanos_torch.pruning.one_layer import PruningRun, Solved, arithmetic_of
from thanos_torch.pruning.plan import PAPER, Choice, Dense, LayerOptions, Plan, Rules
from thanos_torch.pruning.store import BlockStore, FinishedBlock, HeldBlocks, at_work
from thanos_torch.runtime.clock import Stopwatch
from thanos_torch.runtime.files import begin
from thanos_torch.runtime.ranks import Ranks, host
from thanos_torch.text.windows import check_windows


def prune_layers(
    run: PruningRun,
    layers: Mapping[str, PrunableLayer],
    inputs: InputGrams,
    show: Callable[[str, int], None],
) -> None:
    """Prune the layers of a block in place, alone or with other ranks.

    Every layer is pruned by one rank, by the code and from the numbers of a process alone, so its
    result is the same bit for bit. Only the first rank's model is changed. All ranks raise the
    ValueError of any of them, which names the layer.
    """
    owners = dealt(layers, run.plan, run.ranks.count)
    done = len(run.report.layers)

    def solved() -> Iterator[tuple[str, Solved]]:
        with shared_factors():
            for number, (name, layer) in enumerate(layers.items()):
                if owners[name] == run.ranks.rank:
                    show(name.rpartition(".")[2], done + number)
                    begin("solve")
                    yield name, run.solve(name, layer, inputs.matrix(name))

    if run.ranks.count == 1:
        for name, each in solved():
            run.take(layers[name], each)
            inputs.forget(name)
            del each  # before the next layer is solved
        return
    own: dict[str, Solved] = {}

    def solve_own() -> dict[str, Any]:
        own.update(solved())
        return {name: _facts(each) for name, each in own.items()}

    facts = run.ranks.agree(solve_own)
    with run.watch.stage("exchange"):
        for name, layer in layers.items():
            owner, mine = owners[name], own.get(name)
            if run.ranks.first:
                sent = facts[owner][name]
                run.take(layer, mine or _receive(run, owner, layer, inputs.matrix(name), sent))
            elif mine and mine.result:
                _send(run.ranks, mine.result)
            inputs.forget(name)


def dealt(layers: Mapping[str, PrunableLayer], plan: Plan, count: int) -> dict[str, int]:
    """The rank of each layer: the most expensive first, each to whom has least to do so far."""
    load = [0] * count
    owners: dict[str, int] = {}
    for name in sorted(layers, key=lambda each: -_cost(layers[each], plan[each])):
        rank = load.index(min(load))
        load[rank] += _cost(layers[name], plan[name])
        owners[name] = rank
    return owners


def _cost(layer: PrunableLayer, choice: Choice) -> int:
    """Of a factorisation, and of products with it: their flops, but for a factor."""
    rows, columns = layer.shape
    return 0 if isinstance(choice, Dense) else columns**2 * (rows + columns)


def _facts(solved: Solved) -> dict[str, Any]:
    """JSON-able: all but the tensors, which travel by themselves."""
    losses = solved.result.pruned.block_losses.tolist() if solved.result else None
    return {"record": solved.record.as_dict(), "block_losses": losses}


def _send(ranks: Ranks, result: PrunedLayer) -> None:
    ranks.send_to_first(result.pruned.weight)
    ranks.send_to_first(PackedMask.of(result.pruned.mask).bits)
    if result.before_refit is not None:
        ranks.send_to_first(result.before_refit)


def _receive(
    run: PruningRun, owner: int, layer: PrunableLayer, gram: Tensor | None, facts: dict[str, Any]
) -> Solved:
    """What rank `owner` sends of a layer."""
    record = LayerRecord.from_dict(facts["record"])
    choice = run.plan[layer.name]
    if facts["block_losses"] is None or gram is None or isinstance(choice, Dense):
        return Solved(record)
    (rows, columns), dtype = layer.shape, arithmetic_of(layer)
    device = gram.device
    weight = run.ranks.receive(owner, layer.shape, dtype).to(device)
    bits = run.ranks.receive(owner, (-(-rows * columns // 8),), torch.uint8)
    mask = PackedMask(bits, layer.shape).unpacked().to(device)
    losses = torch.tensor(facts["block_losses"], dtype=torch.float64, device=device)
    pruned = Pruned(weight, mask, losses, Diagnostics(**facts["record"]["diagnostics"]))
    before_refit = None
    if choice.refit_steps:
        before_refit = run.ranks.receive(owner, layer.shape, dtype).to(device)
    own = layer.read().to(dtype)
    return Solved(record, PrunedLayer(layer.name, own, gram.to(dtype), pruned, before_refit))


STAGES = ("calibration", "gram", "pruning", "errors", "certificates")


def prune_model(
    model: nn.Module,
    windows: Tensor,
    pattern: Pattern | Rules,
    *,
    judge: Judge | None,
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
) -> ModelReport:
    """Prune all layers in the decoder blocks of a causal language model, in place.

    model        a Hugging Face causal LM in evaluation mode
    windows      (nsamples, seqlen) token ids to calibrate with
    pattern      for all layers; or rules, which also say the last five of these for each of them
    judge        certifies every layer, `verification.certify`; None leaves the model uncertified
    method       thanos, magnitude, wanda or sparsegpt; block_size and damping as for those
    refit_steps  steps of `refit` after each layer, 0 for none
    ablation     switches of thanos that make it another algorithm than the paper's
    device       where the decoder block at work is held
    solver_device  where layers are pruned and judged, by default where they are held; the CPU is
                 faster for layers so small that a GPU waits for each of its many products
    on_layer     called with every layer once it is pruned
    progress     called with what is being done, the layers done, and their number
    only         decoder blocks, by their index, that are pruned; others stay dense, recorded so
    ranks        the processes that share the work, each with the same model and arguments; only
                 the first one's `on_layer` is called, and only its report holds masks

    Each block is calibrated with the outputs of the pruned blocks before it. Raises ValueError:
    before anything changes if the arguments do not fit the model; later, naming the layer and
    leaving the model half-pruned, if a layer's calibration or weights are not finite.
    """
    rules = pattern
    if not isinstance(rules, Rules):
        rules = Rules(LayerOptions(rules, method, block_size, damping, refit_steps, ablation))
    return prune_blocks(
        model,
        windows,
        plan_for(model, windows, rules),
        judge,
        device=device,
        solver_device=solver_device,
        on_layer=on_layer,
        progress=progress,
        only=only,
        ranks=ranks,
    )


def plan_for(model: nn.Module, windows: Tensor, rules: Rules) -> Plan:
    """What is done to each layer; ValueError if it cannot be. Weights may be on the meta device."""
    prefix, blocks = decoder_blocks(model)
    plan = rules.plan(layer_shapes(prunable_layers(blocks, prefix)))
    check_windows(model, windows)
    return plan


@torch.no_grad()
def prune_blocks(
    model: nn.Module,
    windows: Tensor,
    plan: Plan,
    judge: Judge | None,
    *,
    store: BlockStore | None = None,
    activations: Activations | None = None,
    device: torch.device | str = "cpu",
    solver_device: torch.device | str | None = None,
    on_layer: Callable[[PrunedLayer], None] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    only: Callable[[int], bool] | None = None,
    ranks: Ranks | None = None,
) -> ModelReport:
    """The loop of `prune_model`, for blocks that come from a store and may be finished already.

    The plan is that of `plan_for`, which says whether the arguments fit.

    activations  outputs of finished blocks, or of some of them: the rest is calculated again
    """
    store = store or HeldBlocks()
    prefix, blocks = decoder_blocks(model)
    layers = prunable_layers(blocks, prefix)
    ranks = ranks or Ranks()
    watch = Stopwatch(device, STAGES if ranks.count == 1 else (*STAGES, "exchange"))
    others = other_weights(blocks, prefix)
    report = ModelReport([], others, watch.seconds, {})
    run = PruningRun(plan, judge, report, watch, on_layer, ranks, solver_device)
    replay = BlockReplay(model, blocks, windows, device, activations, ranks)
    total = sum(len(group) for group in layers)
    if ranks.count > 1:
        report.ranks = [RankShare(*each) for each in ranks.gather([host(), len(replay.batches)])]

    def show(note: str, done: int) -> None:
        if progress:
            progress(note, done, total)

    last = max((index for index in range(len(blocks)) if not store.finished(index)), default=-1)
    start = min(ranks.gather(replay.activations.position))
    for index, (block, group) in enumerate(zip(blocks, layers, strict=True)):
        finished = store.finished(index)
        if finished:
            report.take(finished.layers, finished.seconds, finished.shares)
            if not start <= index < last:
                continue
        with at_work(store, index, block, device):
            known, before = len(report.layers), dict(watch.seconds)
            if not finished:
                if only and not only(index):
                    run.leave(group, "its block was not chosen")
                else:
                    _prune_block(run, replay, index, group, show)
                store.keep(index)
            ranks.copy_from_first(block.state_dict().values())
            if replay.activations.position <= index < last:
                with watch.stage("calibration"):
                    replay.advance(index)
            if not finished:
                spent = {stage: watch.seconds[stage] - before[stage] for stage in watch.seconds}
                _finish(run, store, index, known, spent)
    show("done", total)
    return report


def _finish(
    run: PruningRun, store: BlockStore, index: int, known: int, spent: dict[str, float]
) -> None:
    """A block is done: first on the first rank, whose word the others then take for it."""
    ranks, layers = run.ranks, run.report.layers
    # Nobody goes on from a block that others have no outputs of: this waits for all of them.
    shares = ranks.gather(spent) if ranks.count > 1 else []
    done = FinishedBlock(layers[known:], spent, shares)

    def finish() -> dict[str, Any]:
        store.finish(index, done, run.report.masks)
        return done.as_dict()

    told = FinishedBlock.from_dict(ranks.from_first(finish))
    if not ranks.first:
        store.finish(index, told, run.report.masks)
    layers[known:] = told.layers
    run.report.count(told.shares)


def _prune_block(
    run: PruningRun,
    replay: BlockReplay,
    index: int,
    layers: Mapping[str, PrunableLayer],
    show: Callable[[str, int], None],
) -> None:
    """Calibrate a block with the outputs of the pruned blocks before it, and prune its layers."""
    show(f"block {index}: calibration", len(run.report.layers))
    wanted = {n: layer for n, layer in layers.items() if not isinstance(run.plan[n], Dense)}
    with run.watch.stage("calibration"), InputGrams(wanted, run.watch) as inputs:
        for _ in replay.run(index) if wanted else ():
            inputs.next_batch()
    inputs.pool(run.ranks)
    prune_layers(run, layers, inputs, lambda name, done: show(f"block {index}: {name}", done))
