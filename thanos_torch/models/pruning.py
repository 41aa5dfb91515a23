"""Pruning a whole model, decoder block by decoder block."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from reference.patterns import Ablation, Pattern
from thanos_torch.models.activations import Activations
from thanos_torch.models.blocks import decoder_blocks, layer_shapes, other_weights, prunable_layers
from thanos_torch.models.dealing import prune_layers
from thanos_torch.models.inputs import InputGrams
from thanos_torch.models.layers import Layer
from thanos_torch.models.ranks import Ranks, host
from thanos_torch.models.recipe import PAPER, LayerOptions
from thanos_torch.models.replay import Replay
from thanos_torch.models.report import Judge, ModelReport, PrunedLayer, RankShare
from thanos_torch.models.rules import Dense, Plan, Rules
from thanos_torch.models.solving import Run
from thanos_torch.models.stopwatch import Stopwatch
from thanos_torch.models.store import BlockStore, FinishedBlock, HeldBlocks, at_work
from thanos_torch.models.windows import check_windows

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
    run = Run(plan, judge, report, watch, on_layer, ranks, solver_device)
    replay = Replay(model, blocks, windows, device, activations, ranks)
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


def _finish(run: Run, store: BlockStore, index: int, known: int, spent: dict[str, float]) -> None:
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
    run: Run,
    replay: Replay,
    index: int,
    layers: Mapping[str, Layer],
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
