"""Prune and judge one layer, and put the result into the model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from thanos_torch.checkpoint.masks import PackedMask
from thanos_torch.checkpoint.record import Judge, LayerRecord, ModelReport, PrunedLayer
from thanos_torch.methods.factor import FactorCache
from thanos_torch.network.layers import PrunableLayer
from thanos_torch.pruning.plan import Dense, Plan
from thanos_torch.runtime.clock import Stopwatch, blas_threads
from thanos_torch.runtime.ranks import Ranks


@dataclass(frozen=True)
class Solved:
    """What came of a layer, before the model has it; `result` is None if it stays dense."""

    record: LayerRecord
    result: PrunedLayer | None = None


@dataclass(frozen=True)
class PruningRun:
    """A run under way: what is asked for, and what has come of it.

    solver_device  where layers are pruned and judged; None for where they are held
    """

    plan: Plan
    judge: Judge | None
    report: ModelReport
    watch: Stopwatch
    on_layer: Callable[[PrunedLayer], None] | None = None
    ranks: Ranks = field(default_factory=Ranks)
    solver_device: torch.device | str | None = None

    def leave(self, layers: Mapping[str, PrunableLayer], reason: str) -> None:
        """Record layers that stay dense."""
        for name, layer in layers.items():
            self.report.layers.append(LayerRecord(name, layer.shape, left_dense=reason))

    def solve(
        self, name: str, layer: PrunableLayer, gram: Tensor | None, factors: FactorCache
    ) -> Solved:
        """Prune one layer and have it judged; without `gram` it stays dense.

        factors  shared by layers that have the same Gram matrix
        """
        record = LayerRecord(name, layer.shape, rank=self.ranks.rank)
        choice = self.plan[name]
        if isinstance(choice, Dense):
            record.left_dense, record.asked_dense = choice.reason, True
            return Solved(record)
        record.options = choice.as_dict()
        if gram is None:
            record.left_dense = "no calibration token reached it"
            return Solved(record)
        where = (self.solver_device or gram.device, arithmetic_of(layer))
        weight, gram = layer.read().to(*where), gram.to(*where)
        before = self.watch.seconds["pruning"]
        try:
            with self.watch.stage("pruning"):
                pruned, kept = choice.prune(weight, gram, factors)
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
        before_refit = pruned.weight if choice.refit_steps else None
        return Solved(record, PrunedLayer(name, weight, gram, kept, before_refit))

    def take(self, layer: PrunableLayer, solved: Solved) -> None:
        """Record a layer, and put its pruned weight into the model."""
        record, result = solved.record, solved.result
        self.report.layers.append(record)
        if result is None:
            return
        record.stored_exactly = _store(layer, result.pruned.weight)
        self.report.masks[record.name] = PackedMask.of(result.pruned.mask)
        if self.on_layer:
            self.on_layer(result)


def arithmetic_of(layer: PrunableLayer) -> torch.dtype:
    """What a layer is pruned in."""
    return torch.float64 if layer.dtype == torch.float64 else torch.float32


def relative_error(weight: Tensor, pruned_weight: Tensor, gram: Tensor) -> float:
    """tr(D G Dᵀ) / tr(W G Wᵀ), D = Ŵ − W: the lost share of the output's energy.

    weight, pruned_weight (c, b); gram (b, b). 0 for a layer whose outputs are all 0.
    """
    D = pruned_weight - weight
    lost = ((D @ gram) * D).sum(dtype=torch.float64).item()
    whole = ((weight @ gram) * weight).sum(dtype=torch.float64).item()
    return lost / whole if whole > 0 else 0.0


def _store(layer: PrunableLayer, weight: Tensor) -> bool:
    """Put a pruned weight into the layer; True if that holds its plain rounding afterwards."""
    rounded = weight.to(layer.dtype)
    if not rounded.isfinite().all():
        raise ValueError(f"{layer.name}: pruned weights are not finite in {rounded.dtype}")
    layer.write(weight)
    return torch.equal(layer.read().to(rounded.device), rounded)
