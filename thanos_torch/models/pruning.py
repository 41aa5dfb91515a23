"""Pruning a whole model, decoder block by decoder block."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from reference.patterns import Pattern, refuse_outlier_rows
from thanos_torch import magnitude, refit, sparsegpt, thanos, wanda
from thanos_torch.gram import Gram
from thanos_torch.models.blocks import decoder_blocks, prunable_layers
from thanos_torch.models.calibration import Activations, collect_grams
from thanos_torch.result import Pruned

METHODS: dict[str, Callable[..., Pruned]] = {
    "thanos": thanos,
    "magnitude": magnitude,
    "wanda": wanda,
    "sparsegpt": sparsegpt,
}


class Verdict(Protocol):
    """What a judge returns; `verification.Certificate` is one."""

    @property
    def passed(self) -> bool:
        """Whether the layer is what was promised."""

    def as_dict(self) -> dict[str, object]:
        """The verdict for a JSON file."""


# `verification.certify` is one: (weight, gram, pruned_weight, pattern, **options) as NumPy arrays.
Judge = Callable[..., Verdict]


@dataclass(frozen=True)
class PrunedLayer:
    """A layer that was just pruned, for those who want to look at it; float32.

    weight  (c, b), before
    gram    (b, b), the Gram matrix that it was pruned with
    pruned  the result, (c, b), after a refit if one was asked for
    """

    name: str
    weight: Tensor
    gram: Tensor
    pruned: Pruned


@dataclass
class LayerRecord:
    """What happened to one layer.

    relative_error  tr(D G Dᵀ) / tr(W G Wᵀ), D = Ŵ − W
    seconds         of pruning alone
    certificate     the judge's verdict, or None if nobody judged
    stored_exactly  the model holds the certified weights, rounded to its dtype and no more changed
    left_dense      why the layer was not pruned, if it was not
    """

    name: str
    shape: tuple[int, int]
    removed: int = 0
    relative_error: float = 0.0
    seconds: float = 0.0
    block_losses: list[float] = field(default_factory=list)
    diagnostics: dict[str, object] = field(default_factory=dict)
    certificate: dict[str, object] | None = None
    stored_exactly: bool = True
    left_dense: str = ""

    @property
    def verified(self) -> bool:
        """Whether a judge passed the layer and the model holds what was judged."""
        passed = self.certificate is not None and self.certificate["passed"] is True
        return passed and self.stored_exactly


@dataclass
class ModelReport:
    """What happened to a model; seconds by stage: calibration, gram, pruning, certificates."""

    method: str
    pattern: str
    layers: list[LayerRecord] = field(default_factory=list)
    masks: dict[str, Tensor] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def verified(self) -> bool:
        """Whether every layer was pruned, certified and stored; an empty model was not."""
        return bool(self.layers) and all(layer.verified for layer in self.layers)

    @property
    def sparsity(self) -> float:
        """Share of the weights in the layers looked at that were removed."""
        total = sum(layer.shape[0] * layer.shape[1] for layer in self.layers)
        return sum(layer.removed for layer in self.layers) / total

    @property
    def relative_error(self) -> float:
        """Mean over the layers."""
        return sum(layer.relative_error for layer in self.layers) / len(self.layers)

    def as_dict(self) -> dict[str, object]:
        """JSON-able; without the masks, which go into a file of their own."""
        return {
            "method": self.method,
            "pattern": self.pattern,
            "verified": self.verified,
            "sparsity": self.sparsity,
            "relative_error": self.relative_error,
            "seconds": dict(self.seconds),
            "layers": [asdict(layer) for layer in self.layers],
        }


@torch.no_grad()
def prune_model(
    model: nn.Module,
    windows: Tensor,
    pattern: Pattern,
    *,
    judge: Judge | None,
    method: str = "thanos",
    block_size: int = 128,
    damping: float = 0.01,
    refit_steps: int = 0,
    device: torch.device | str = "cpu",
    on_layer: Callable[[PrunedLayer], None] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> ModelReport:
    """Prune all linear layers of a causal language model, in place.

    model        a Hugging Face causal LM in evaluation mode
    windows      (nsamples, seqlen) token ids to calibrate with
    judge        certifies every layer, `verification.certify`; None leaves the model uncertified
    method       thanos, magnitude, wanda or sparsegpt; further options as for those
    refit_steps  steps of `refit` after each layer, 0 for none
    device       where the decoder block at work is held
    on_layer     called with every layer once it is pruned
    progress     called with what is being done, the layers done, and their number

    Each block sees the outputs of the pruned blocks before it. Raises ValueError before anything
    is changed if the pattern does not fit a layer, and later, naming the layer, if its calibration
    input is not finite.
    """
    prefix, blocks = decoder_blocks(model)
    layers = prunable_layers(blocks, prefix)
    _refuse_misfits(layers, pattern, method, block_size, refit_steps)
    run = _Run(pattern, judge, method, block_size, damping, refit_steps, on_layer)
    run.report = ModelReport(method, str(pattern))
    total, done = sum(len(group) for group in layers), 0
    with run.timed("calibration"):
        activations = Activations(model, blocks[0], windows)
    for index, (block, group) in enumerate(zip(blocks, layers, strict=True)):
        home = next(block.parameters()).device
        block.to(device)
        if progress:
            progress(f"block {index}: calibrating", done, total)
        with run.timed("calibration"):
            grams = collect_grams(activations, block, group)
        for name, layer in group.items():
            if progress:
                progress(name.removeprefix(f"{prefix}."), done, total)
            run.prune(name, layer, grams.get(name))
            done += 1
        if index + 1 < len(blocks):
            with run.timed("calibration"):
                activations.advance(block)
        block.to(home)
    if progress:
        progress("done", done, total)
    return run.report


def _refuse_misfits(
    layers: list[dict[str, nn.Linear]],
    pattern: Pattern,
    method: str,
    block_size: int,
    refit_steps: int,
) -> None:
    """Find out before hours of work what would go wrong after them."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if method != "thanos":
        refuse_outlier_rows(method, pattern)
    if refit_steps < 0:
        raise ValueError(f"refit must not be negative, got {refit_steps}")
    for group in layers:
        for name, layer in group.items():
            try:
                pattern.check(layer.out_features, layer.in_features, block_size)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None


@dataclass
class _Run:
    """The settings of a run, and what it has done so far."""

    pattern: Pattern
    judge: Judge | None
    method: str
    block_size: int
    damping: float
    refit_steps: int
    on_layer: Callable[[PrunedLayer], None] | None
    report: ModelReport = field(init=False)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.report.seconds[stage] += time.perf_counter() - start

    def prune(self, name: str, layer: nn.Linear, gram: Gram | None) -> None:
        """Prune one layer in place, have it judged, and record it."""
        record = LayerRecord(name, (layer.out_features, layer.in_features))
        self.report.layers.append(record)
        if gram is None:
            record.left_dense = "no calibration token reached it"
            return
        try:
            G = gram.matrix()
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        weight = layer.weight.detach().float()
        before = self.report.seconds["pruning"]
        options = {"block_size": self.block_size, "damping": self.damping}
        with self.timed("pruning"):
            pruned = METHODS[self.method](weight, G, self.pattern, **options)
            result = pruned
            if self.refit_steps:
                result = refit(weight, G, pruned, steps=self.refit_steps, damping=self.damping)
        record.seconds = self.report.seconds["pruning"] - before
        record.removed = int(result.mask.sum())
        record.relative_error = relative_error(weight, result.weight, G)
        record.block_losses = pruned.block_losses.tolist()
        record.diagnostics = result.diagnostics.as_dict()
        with self.timed("certificates"):
            record.certificate = self._judged(weight, G, pruned, result)
        if self.on_layer:
            self.on_layer(PrunedLayer(name, weight, G, result))
        stored = result.weight.to(layer.weight.dtype)
        layer.weight.copy_(stored)
        record.stored_exactly = torch.equal(layer.weight, stored)
        self.report.masks[name] = result.mask.cpu()

    def _judged(
        self, weight: Tensor, gram: Tensor, pruned: Pruned, result: Pruned
    ) -> dict[str, object] | None:
        if self.judge is None:
            return None
        refitted = {"refitted_weight": _numpy(result.weight)} if self.refit_steps else {}
        verdict = self.judge(
            _numpy(weight),
            _numpy(gram),
            _numpy(pruned.weight),
            self.pattern,
            method=self.method,
            block_size=self.block_size,
            damping=self.damping,
            mask=_numpy(pruned.mask),
            arithmetic="float32",
            block_losses=_numpy(pruned.block_losses),
            **refitted,
        )
        return verdict.as_dict()


def relative_error(weight: Tensor, pruned: Tensor, gram: Tensor) -> float:
    """tr(D G Dᵀ) / tr(W G Wᵀ), D = Ŵ − W; 0 for a layer whose outputs are all 0."""
    D = pruned - weight
    lost = ((D @ gram) * D).double().sum().item()
    whole = ((weight @ gram) * weight).double().sum().item()
    return lost / whole if whole > 0 else 0.0


def _numpy(tensor: Tensor) -> Any:
    return tensor.cpu().numpy()
