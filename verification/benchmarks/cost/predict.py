"""What the cost model says of whole models: Llama 3, and SmolLM2 to be held against the real one.

Layers, and which of them read one input, are taken from the model's own code on the meta device.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from reference.patterns import parse_pattern
from thanos_torch.models.estimate import memory_parts
from thanos_torch.models.planning import PlannedLayer, meta_model, planned_layers
from thanos_torch.models.recipe import LayerOptions
from thanos_torch.models.replay import BATCH_TOKENS
from thanos_torch.models.rules import Rules
from verification.benchmarks.cost.check import NONE, predicted_layer
from verification.benchmarks.cost.decoder import llama
from verification.benchmarks.cost.laws import GRAM_LAW, PASS_LAW, needs_inverse
from verification.benchmarks.cost.model import CostModel, Steps, steps_taken
from verification.benchmarks.cost.operations import Work

VOCABULARY = 128256


@dataclass(frozen=True)
class Target:
    """A Llama, by its published configuration."""

    name: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_heads: int = 8

    def build(self, layers: int) -> Any:
        """The model with so many decoder blocks, on the meta device."""
        shape = self.hidden, self.intermediate, layers, self.heads, self.key_heads
        return llama(*shape, VOCABULARY)


LLAMAS = (
    Target("Llama-3 8B", 4096, 14336, 32, 32),
    Target("Llama-3 70B", 8192, 28672, 80, 64),
    Target("Llama-3 405B", 16384, 53248, 126, 128),
)
WINDOWS, LENGTH = 128, 2048  # of calibration text, in the published protocol


def predictions(
    model: CostModel,
    runs: Iterable[Mapping[str, Any]],
    least: Steps,
    targets: Iterable[Target] = LLAMAS,
) -> list[dict[str, Any]]:
    """Every run on every target: seconds by stage, bytes. Blocks are alike: one is built.

    least  the least steps of the solver: real layers may need more than the random ones measured
    """
    found = []
    asked = list(runs)
    for target in targets:
        built = target.build(1)
        for run in asked:
            one = predicted_model(model, built, run, WINDOWS * LENGTH, LENGTH, least)
            seconds = {stage: target.layers * spent for stage, spent in one["seconds"].items()}
            found.append(
                {"model": target.name, "run": run, "seconds": seconds, **whole_memory(one)}
            )
    return found


def small_model(model: CostModel, run: Mapping[str, Any], measured: Mapping[str, Any]) -> Any:
    """The same for the model that was measured as a whole, with its own steps of the solver."""
    built = meta_model(measured["model"])
    tokens, length = measured["tokens"], measured["length"]
    taken = steps_taken(measured)
    return predicted_model(model, built, run, tokens, length, taken=taken)["seconds"]


def predicted_model(
    model: CostModel,
    built: nn.Module,
    run: Mapping[str, Any],
    tokens: int,
    length: int,
    least: Steps = NONE,
    taken: Steps | None = None,
) -> dict[str, Any]:
    """All decoder blocks that were built: seconds by stage, bytes by what takes them.

    length  tokens of a window
    least   the least steps of the solver, whatever the model says
    taken   its steps, whatever the model says
    """
    layers = planned_layers(built, Rules(_options(run)))
    seconds: dict[str, float] = defaultdict(float)
    work = 0.0
    for layer in layers:
        said = predicted_layer(model, run, layer.shape, least, taken)
        stages = dict(said["stages"])
        if layer.reads != layer.name and needs_inverse(run["method"], run["pattern"]):
            stages["factor"] = 0.0  # `shared_factors`
        for stage, spent in stages.items():
            seconds[stage] += spent
        seconds["certificates"] += said["certificate"]
        if layer.reads == layer.name:
            batch = Work(columns=layer.shape[1], tokens=BATCH_TOKENS)
            seconds["gram"] += model.value(GRAM_LAW, batch) * tokens / BATCH_TOKENS
        numbers = layer.shape[0] * layer.shape[1]
        work = max(work, 4 * numbers + said["memory"])
    seconds["calibration"] = _calibration(model, layers, tokens, length)
    parts = memory_parts(built, layers, tokens)
    certificate = parts.pop("certificate")
    del parts["program and libraries"], parts["solver"]  # of this process; known better here
    return {
        "seconds": dict(seconds),
        "memory": {**parts, "layer at work": work},
        "certificate_bytes": certificate,
    }


def _calibration(
    model: CostModel, layers: Iterable[PlannedLayer], tokens: int, length: int
) -> float:
    """Every decoder block runs twice over all windows: see `prune_model`."""
    blocks: dict[int, list[PlannedLayer]] = defaultdict(list)
    for layer in layers:
        blocks[layer.block].append(layer)
    total = 0.0
    for group in blocks.values():
        window = Work(
            columns=group[0].shape[1],
            tokens=length,
            weights=sum(each.shape[0] * each.shape[1] for each in group),
            widths=sum(sum(each.shape) for each in group),
        )
        total += 2 * tokens / length * model.value(PASS_LAW, window)
    return total


def whole_memory(one: Mapping[str, Any]) -> dict[str, Any]:
    """What `predicted_model` says, added up; certificates come after the layer's work is done."""
    parts, at_work = one["memory"], one["memory"]["layer at work"]
    peak = sum(parts.values())
    judged = peak - at_work + max(at_work, one["certificate_bytes"])
    return {"memory": parts, "peak_bytes": peak, "peak_with_certificates_bytes": judged}


def _options(run: Mapping[str, Any]) -> LayerOptions:
    pattern = parse_pattern(run["pattern"])
    return LayerOptions(pattern, run["method"], run["block_size"], refit_steps=run["refit_steps"])
