"""Predictions of the cost model for whole models: Llama 3, and SmolLM2 to check against.

The model's own code, on the meta device, says which layers it has and which of them read one input.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from reference.patterns import parse_pattern
from thanos_torch.network.replay import BATCH_TOKENS
from thanos_torch.pruning.dry_run import PlannedLayer, memory_parts, meta_model, planned_layers
from thanos_torch.pruning.plan import LayerOptions, Rules
from verification.benchmarks.performance.cost_model import (
    NONE,
    CostModel,
    Steps,
    predicted_layer,
    steps_taken,
)
from verification.benchmarks.performance.laws import GRAM_LAW, PASS_LAW, Work, needs_inverse

HEAD = 64  # width of an attention head, in blocks that are timed
GROUPS = 4  # query heads for each key and value head


@dataclass(frozen=True)
class DecoderBlock:
    """A decoder block with random weights.

    weights  number of weights of its linear layers
    widths   sum of the input and output widths of its linear layers
    """

    block: nn.Module
    rotary: nn.Module
    weights: int
    widths: int

    @torch.no_grad()
    def run(self, X: Tensor) -> Tensor:
        """The block's output for X, (1, tokens, hidden), with causal attention."""
        positions = torch.arange(X.shape[1])[None]
        output: Any = self.block(X, position_embeddings=self.rotary(X, positions))
        result: Tensor = output[0] if isinstance(output, tuple) else output
        return result


def decoder_block(hidden: int, intermediate: int) -> DecoderBlock:
    """A decoder block with Llama 3's architecture, in float32."""
    heads = max(1, hidden // HEAD)
    model = _build(hidden, intermediate, 1, heads, max(1, heads // GROUPS), 8, "cpu")
    block = model.model.layers[0]
    linear = [part.weight for part in block.modules() if isinstance(part, nn.Linear)]
    return DecoderBlock(
        block,
        model.model.rotary_emb,
        sum(weight.numel() for weight in linear),
        sum(sum(weight.shape) for weight in linear),
    )


def llama(
    hidden: int, intermediate: int, layers: int, heads: int, key_heads: int, vocabulary: int
) -> Any:
    """A Llama in bfloat16 on the meta device, where it takes no memory."""
    return _build(hidden, intermediate, layers, heads, key_heads, vocabulary, "meta").bfloat16()


def _build(
    hidden: int,
    intermediate: int,
    layers: int,
    heads: int,
    key_heads: int,
    vocabulary: int,
    device: str,
) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        vocab_size=vocabulary,
        tie_word_embeddings=False,
    )
    with torch.device(device):
        model: Any = LlamaForCausalLM(config)
    return model.eval()


VOCABULARY = 128256


@dataclass(frozen=True)
class LlamaSize:
    """The published configuration of a Llama 3 model."""

    name: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_heads: int = 8

    def build(self, layers: int) -> Any:
        """The model with `layers` decoder blocks, on the meta device."""
        shape = self.hidden, self.intermediate, layers, self.heads, self.key_heads
        return llama(*shape, VOCABULARY)


LLAMAS = (
    LlamaSize("Llama-3 8B", 4096, 14336, 32, 32),
    LlamaSize("Llama-3 70B", 8192, 28672, 80, 64),
    LlamaSize("Llama-3 405B", 16384, 53248, 126, 128),
)
WINDOWS, LENGTH = 128, 2048  # of calibration text, in the published protocol


def predictions(
    model: CostModel,
    runs: Iterable[Mapping[str, Any]],
    least: Steps,
    targets: Iterable[LlamaSize] = LLAMAS,
) -> list[dict[str, Any]]:
    """Predict every run on every target: seconds by stage, and bytes. One block stands for all.

    least  least steps of the solver: real layers may need more than the measured random ones
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
    """Predict the model that was measured as a whole, with its measured solver steps."""
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
    """Predict all decoder blocks of `built`: seconds by stage, and bytes by purpose.

    length  tokens of a window
    least   least steps of the solver, if the cost model predicts fewer
    taken   steps of the solver, in place of the cost model's
    """
    layers = planned_layers(built, Rules(_options(run)))
    seconds: dict[str, float] = defaultdict(float)
    work = 0.0
    for layer in layers:
        said = predicted_layer(model, run, layer.shape, least, taken)
        stages = dict(said["stages"])
        if layer.reads != layer.name and needs_inverse(run["method"], run["pattern"]):
            stages["factor"] = 0.0  # layers that read one input share the factor
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
    for name in ("program and libraries", "solver"):  # of this process, not of the one predicted
        del parts[name]
    return {
        "seconds": dict(seconds),
        "memory": {**parts, "layer at work": work},
        "certificate_bytes": certificate,
    }


def _calibration(
    model: CostModel, layers: Iterable[PlannedLayer], tokens: int, length: int
) -> float:
    """Seconds of the passes: each decoder block runs twice over all windows (`prune_model`)."""
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
    """Peak bytes of a `predicted_model`; a layer's certificate runs after its pruning is done."""
    parts, at_work = one["memory"], one["memory"]["layer at work"]
    peak = sum(parts.values())
    judged = peak - at_work + max(at_work, one["certificate_bytes"])
    return {"memory": parts, "peak_bytes": peak, "peak_with_certificates_bytes": judged}


def _options(run: Mapping[str, Any]) -> LayerOptions:
    pattern = parse_pattern(run["pattern"])
    return LayerOptions(pattern, run["method"], run["block_size"], refit_steps=run["refit_steps"])
