"""Prune and judge one layer, exchange the result between ranks, and put it into the model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from thanos_torch.checkpoint.masks import PackedMask, packed_bytes
from thanos_torch.checkpoint.record import Judge, LayerRecord, PrunedLayer
from thanos_torch.methods.checks import Checks
from thanos_torch.methods.factor import FactorCache
from thanos_torch.methods.result import Diagnostics, Pruned
from thanos_torch.network.layers import PrunableLayer, arithmetic_of
from thanos_torch.pruning.plan import Choice, Dense
from thanos_torch.runtime.arguments import checked
from thanos_torch.runtime.clock import Span, Stopwatch
from thanos_torch.runtime.ranks import Ranks
from thanos_torch.runtime.threads import blas_threads


@dataclass(frozen=True)
class Solved:
    """The outcome for a layer, not yet in the model; `result` is None if the layer stays dense."""

    record: LayerRecord
    result: PrunedLayer | None = None

    def facts(self) -> dict[str, Any]:
        """JSON-able: all but the tensors, which `send` gives to the first rank."""
        losses = self.result.pruned.block_losses.tolist() if self.result else None
        return {"record": self.record.as_dict(), "block_losses": losses}

    def send(self, ranks: Ranks) -> None:
        """Give the tensors to the first rank, which calls `receive`."""
        if self.result is None:
            return
        ranks.send_to_first(self.result.pruned.weight)
        ranks.send_to_first(PackedMask.of(self.result.pruned.mask).bits)
        if self.result.before_refit is not None:
            ranks.send_to_first(self.result.before_refit)


@dataclass(frozen=True)
class Started:
    """A layer that a method has pruned; on a device nobody has looked at the result yet.

    pruned  None if the layer stays dense
    """

    record: LayerRecord
    choice: Choice
    weight: Tensor | None = None
    gram: Tensor | None = None
    pruned: Pruned | None = None
    span: Span | None = None


def start(
    layer: PrunableLayer,
    choice: Choice,
    gram: Tensor | None,
    watch: Stopwatch,
    factors: FactorCache,
    checks: Checks,
    device: torch.device | str | None = None,
) -> Started:
    """Prune one layer; the model stays as it is.

    gram     (b, b); without it the layer stays dense
    factors  shared by layers that have the same Gram matrix
    checks   to be looked at before `finish` is called
    device   where to work; None for where `gram` is

    Raises ValueError, naming the layer, if its weight or `gram` is not finite; on a device
    `checks.look()` does.
    """
    record = LayerRecord(layer.name, layer.shape)
    if isinstance(choice, Dense):
        record.left_dense, record.asked_dense = choice.reason, True
        return Started(record, choice)
    record.options = choice.as_dict()
    if gram is None:
        record.left_dense = "no calibration token reached it"
        return Started(record, choice)
    where = (device or gram.device, arithmetic_of(layer.dtype))
    weight, gram = layer.read().to(*where), gram.to(*where)
    with watch.stage("pruning") as span, naming(layer.name):
        pruned = choice.before_refit(weight, gram, factors, checks.named(layer.name))
    return Started(record, choice, weight, gram, pruned, span)


def finish(started: Started, judge: Judge | None, watch: Stopwatch) -> Solved:
    """Refit a layer if that was asked for, and have it judged.

    judge  None leaves the layer uncertified
    """
    record, choice, pruned = started.record, started.choice, started.pruned
    weight, gram, span = started.weight, started.gram, started.span
    if isinstance(choice, Dense) or pruned is None:
        return Solved(record)
    assert weight is not None
    assert gram is not None
    assert span is not None
    with naming(record.name):
        with watch.stage("pruning") as refitting:
            kept = choice.refitted(weight, gram, pruned)
        with watch.stage("certificates"), blas_threads(len(gram)):
            verdict = choice.verdict(judge, weight, gram, pruned, kept)
    if verdict is not None:
        record.certificate = verdict.as_dict()
    record.seconds = span.seconds + refitting.seconds
    with watch.stage("errors"):
        record.relative_error = relative_error(weight, kept.weight, gram)
    record.removed = int(kept.mask.sum())
    record.diagnostics = kept.diagnostics.as_dict()
    before_refit = pruned.weight if choice.refit_steps else None
    return Solved(record, PrunedLayer(record.name, weight, gram, kept, before_refit))


@contextmanager
def naming(layer: str) -> Iterator[None]:
    """Let the ValueErrors inside begin with the name of the layer."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{layer}: {error}") from error


def receive(
    ranks: Ranks,
    owner: int,
    layer: PrunableLayer,
    choice: Choice,
    gram: Tensor | None,
    facts: dict[str, Any],
) -> Solved:
    """Put a layer's outcome together from the tensors that rank `owner` sends and its `facts`."""
    record = LayerRecord.from_dict(facts["record"])
    if facts["block_losses"] is None or gram is None or isinstance(choice, Dense):
        return Solved(record)
    dtype, device = arithmetic_of(layer.dtype), gram.device
    weight = ranks.receive(owner, layer.shape, dtype).to(device)
    bits = ranks.receive(owner, (packed_bytes(*layer.shape),), torch.uint8)
    mask = PackedMask(bits, layer.shape).unpacked().to(device)
    losses = torch.tensor(facts["block_losses"], dtype=torch.float64, device=device)
    pruned = Pruned(weight, mask, losses, Diagnostics(**facts["record"]["diagnostics"]))
    before_refit = None
    if choice.refit_steps:
        before_refit = ranks.receive(owner, layer.shape, dtype).to(device)
    own = layer.read().to(dtype)
    return Solved(record, PrunedLayer(layer.name, own, gram.to(dtype), pruned, before_refit))


def store_weight(layer: PrunableLayer, weight: Tensor, dtype: torch.dtype | None = None) -> bool:
    """Put a pruned weight, (c, b), into the model, rounded to a dtype: by default the layer's.

    Returns whether the model holds exactly that afterwards. Raises ValueError, naming the layer and
    changing nothing, if the weight is not finite in that dtype.
    """
    rounded = weight.to(dtype or layer.dtype)
    if not rounded.isfinite().all():
        raise ValueError(f"{layer.name}: pruned weights are not finite in {rounded.dtype}")
    layer.write(rounded)
    return torch.equal(layer.matrix.to(rounded.device, rounded.dtype), rounded)


@checked()
def relative_error(weight: Tensor, pruned_weight: Tensor, gram: Tensor) -> float:
    """tr(D G Dᵀ) / tr(W G Wᵀ), D = Ŵ − W: the lost share of the output's energy.

    weight, pruned_weight (c, b); gram (b, b). 0 for a layer whose outputs are all 0.
    """
    D = pruned_weight - weight
    sums = [((rows @ gram) * rows).sum(dtype=torch.float64) for rows in (D, weight)]
    lost, whole = torch.stack(sums).tolist()
    return lost / whole if whole > 0 else 0.0
