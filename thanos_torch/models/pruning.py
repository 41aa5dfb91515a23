"""Pruning a whole model, decoder block by decoder block."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reference.patterns import Pattern
from thanos_torch.models.activations import Activations
from thanos_torch.models.blocks import decoder_blocks, layer_shapes, other_weights, prunable_layers
from thanos_torch.models.failpoints import begin
from thanos_torch.models.inputs import InputGrams
from thanos_torch.models.layers import Layer
from thanos_torch.models.masks import PackedMask
from thanos_torch.models.recipe import LayerOptions
from thanos_torch.models.replay import Replay
from thanos_torch.models.report import Judge, LayerRecord, ModelReport, PrunedLayer
from thanos_torch.models.rules import Dense, Plan, Rules
from thanos_torch.models.stopwatch import Stopwatch
from thanos_torch.models.store import BlockStore, FinishedBlock, HeldBlocks, at_work
from thanos_torch.models.threads import blas_threads
from thanos_torch.models.windows import check_windows
from thanos_torch.sharing import shared_factors

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
    device: torch.device | str = "cpu",
    on_layer: Callable[[PrunedLayer], None] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    only: Callable[[int], bool] | None = None,
) -> ModelReport:
    """Prune all layers in the decoder blocks of a causal language model, in place.

    model        a Hugging Face causal LM in evaluation mode
    windows      (nsamples, seqlen) token ids to calibrate with
    pattern      for all layers; or rules, which also say the next four for each of them
    judge        certifies every layer, `verification.certify`; None leaves the model uncertified
    method       thanos, magnitude, wanda or sparsegpt; block_size and damping as for those
    refit_steps  steps of `refit` after each layer, 0 for none
    device       where the decoder block at work is held
    on_layer     called with every layer once it is pruned
    progress     called with what is being done, the layers done, and their number
    only         decoder blocks, by their index, that are pruned; others stay dense, recorded so

    Each block is calibrated with the outputs of the pruned blocks before it. Raises ValueError:
    before anything changes if the arguments do not fit the model; later, naming the layer and
    leaving the model half-pruned, if a layer's calibration or weights are not finite.
    """
    rules = pattern
    if not isinstance(rules, Rules):
        rules = Rules(LayerOptions(rules, method, block_size, damping, refit_steps))
    return prune_blocks(
        model,
        windows,
        plan_for(model, windows, rules),
        judge,
        device=device,
        on_layer=on_layer,
        progress=progress,
        only=only,
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
    on_layer: Callable[[PrunedLayer], None] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    only: Callable[[int], bool] | None = None,
) -> ModelReport:
    """The loop of `prune_model`, for blocks that come from a store and may be finished already.

    The plan is that of `plan_for`, which says whether the arguments fit.

    activations  outputs of finished blocks, or of some of them: the rest is calculated again
    """
    store = store or HeldBlocks()
    prefix, blocks = decoder_blocks(model)
    layers = prunable_layers(blocks, prefix)
    watch = Stopwatch(device, STAGES)
    others = other_weights(blocks, prefix)
    report = ModelReport([], others, watch.seconds, {})
    run = _Run(plan, judge, report, watch, on_layer)
    replay = Replay(model, blocks, windows, device, activations)
    total = sum(len(group) for group in layers)

    def show(note: str, done: int) -> None:
        if progress:
            progress(note, done, total)

    last = max((index for index in range(len(blocks)) if not store.finished(index)), default=-1)
    for index, (block, group) in enumerate(zip(blocks, layers, strict=True)):
        finished = store.finished(index)
        if finished:
            report.take(finished.layers, finished.seconds)
            if not replay.activations.position <= index < last:
                continue
        with at_work(store, index, block, device):
            known, before = len(report.layers), dict(watch.seconds)
            if not finished:
                if only and not only(index):
                    run.leave(group, "its block was not chosen")
                else:
                    _prune_block(run, replay, index, group, show)
                store.keep(index)
            if index < last:
                with watch.stage("calibration"):
                    replay.advance(index)
            if not finished:
                spent = {stage: watch.seconds[stage] - before[stage] for stage in STAGES}
                done = FinishedBlock(report.layers[known:], spent)
                store.finish(index, done, report.masks)
    show("done", total)
    return report


def _prune_block(
    run: "_Run",
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
    with shared_factors():
        for name, layer in layers.items():
            show(f"block {index}: {name.rpartition('.')[2]}", len(run.report.layers))
            begin("solve")
            run.prune(name, layer, inputs.matrix(name))


def relative_error(weight: Tensor, pruned_weight: Tensor, gram: Tensor) -> float:
    """tr(D G Dᵀ) / tr(W G Wᵀ), D = Ŵ − W: the lost share of the output's energy.

    weight, pruned_weight (c, b); gram (b, b). 0 for a layer whose outputs are all 0.
    """
    D = pruned_weight - weight
    lost = ((D @ gram) * D).sum(dtype=torch.float64).item()
    whole = ((weight @ gram) * weight).sum(dtype=torch.float64).item()
    return lost / whole if whole > 0 else 0.0


@dataclass(frozen=True)
class _Run:
    """A run under way: what is asked for, and what has come of it."""

    plan: Plan
    judge: Judge | None
    report: ModelReport
    watch: Stopwatch
    on_layer: Callable[[PrunedLayer], None] | None

    def leave(self, layers: Mapping[str, Layer], reason: str) -> None:
        """Record layers that stay dense."""
        for name, layer in layers.items():
            self.report.layers.append(LayerRecord(name, layer.shape, left_dense=reason))

    def prune(self, name: str, layer: Layer, gram: Tensor | None) -> None:
        """Prune one layer in place, have it judged, record it; without `gram` it stays dense."""
        record = LayerRecord(name, layer.shape)
        self.report.layers.append(record)
        choice = self.plan[name]
        if isinstance(choice, Dense):
            record.left_dense, record.asked_dense = choice.reason, True
            return
        record.options = choice.as_dict()
        if gram is None:
            record.left_dense = "no calibration token reached it"
            return
        arithmetic = torch.float64 if layer.dtype == torch.float64 else torch.float32
        weight, gram = layer.read().to(arithmetic), gram.to(arithmetic)
        before = self.watch.seconds["pruning"]
        try:
            with self.watch.stage("pruning"):
                pruned, kept = choice.prune(weight, gram)
            with self.watch.stage("certificates"), blas_threads(len(gram)):
                verdict = choice.verdict(self.judge, weight, gram, pruned, kept)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        record.seconds = self.watch.seconds["pruning"] - before
        if verdict is not None:
            record.certificate = verdict.as_dict()
        with self.watch.stage("errors"):
            record.relative_error = relative_error(weight, kept.weight, gram)
        record.removed = int(kept.mask.sum())
        record.diagnostics = kept.diagnostics.as_dict()
        record.stored_exactly = _store(layer, kept.weight)
        self.report.masks[name] = PackedMask.of(kept.mask)
        if self.on_layer:
            before_refit = pruned.weight if choice.refit_steps else None
            self.on_layer(PrunedLayer(name, weight, gram, kept, before_refit))


def _store(layer: Layer, weight: Tensor) -> bool:
    """Put a pruned weight into the layer; True if that holds its plain rounding afterwards."""
    rounded = weight.to(layer.dtype)
    if not rounded.isfinite().all():
        raise ValueError(f"{layer.name}: pruned weights are not finite in {rounded.dtype}")
    layer.write(weight)
    return torch.equal(layer.read(), rounded)
