"""Predictions of the cost model for whole models: Llama 3, and SmolLM2 to check against.

The model's own code, on the meta device, says which layers it has and which of them read one input.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from reference.patterns import parse_pattern
from thanos_torch.pruning.cost import PlannedLayer
from thanos_torch.pruning.dry_run import memory_parts, planned_layers
from thanos_torch.pruning.plan import LayerOptions, Rules
from verification.benchmarks.performance.cost_model import (
    Model,
    gram_work,
    label,
    layer_work,
    memory_work,
    pass_work,
    predicted,
)

HEAD = 64  # width of an attention head, in blocks that are timed
GROUPS = 4  # query heads for each key and value head
WINDOWS, LENGTH = 128, 2048  # of calibration text, in the published protocol


@dataclass(frozen=True)
class DecoderBlock:
    """A decoder block with random weights; `weights` counts those of its linear layers."""

    block: nn.Module
    rotary: nn.Module
    weights: int

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
    size = LlamaSize("timed", hidden, intermediate, 1, heads, max(1, heads // GROUPS), 8)
    model = size.build("cpu")
    block = model.model.layers[0]
    linear = [part.weight for part in block.modules() if isinstance(part, nn.Linear)]
    return DecoderBlock(block, model.model.rotary_emb, sum(weight.numel() for weight in linear))


@dataclass(frozen=True)
class LlamaSize:
    """The published configuration of a Llama 3 model."""

    name: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_heads: int = 8
    vocabulary: int = 128256

    def build(self, device: str) -> Any:
        """The model with one decoder block."""
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            num_hidden_layers=1,
            num_attention_heads=self.heads,
            num_key_value_heads=self.key_heads,
            vocab_size=self.vocabulary,
            tie_word_embeddings=False,
        )
        with torch.device(device):
            model: Any = LlamaForCausalLM(config)
        return model.eval()


LLAMAS = (
    LlamaSize("Llama-3 8B", 4096, 14336, 32, 32),
    LlamaSize("Llama-3 70B", 8192, 28672, 80, 64),
    LlamaSize("Llama-3.1 405B", 16384, 53248, 126, 128),
)


def predictions(model: Model, runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every run on every Llama, in bfloat16: seconds by stage, and bytes.

    All decoder blocks are alike, so one of them stands for all.
    """
    found = []
    for target in LLAMAS:
        built = target.build("meta").bfloat16()
        for one in predicted_runs(model, built, runs, WINDOWS * LENGTH, LENGTH):
            one["seconds"] = {at: target.layers * each for at, each in one["seconds"].items()}
            found.append({"model": target.name, **one})
    return found


def predicted_runs(
    model: Model, built: nn.Module, runs: Sequence[Mapping[str, Any]], tokens: int, length: int
) -> list[dict[str, Any]]:
    """Predict runs on all decoder blocks of `built`: seconds by stage, and peak bytes.

    length  tokens of a window

    A factor counts for every layer, though layers that read one input share it: of Llama 3 that
    adds 6 to 7 % of the factors' time. A layer's certificate runs after its pruning is done.
    """
    # Which layers there are, and which read one input, depends on no run.
    layers = planned_layers(built, Rules(LayerOptions(parse_pattern(runs[0]["pattern"]))))
    calibration = {
        "passes": _passes(model, layers, tokens, length),
        "gram": sum(
            predicted(model, "gram", gram_work(tokens, layer.shape[1]))
            for layer in layers
            if layer.reads == layer.name
        ),
    }
    parts = memory_parts(built, layers, tokens)
    certificate = parts.pop("certificate")
    for name in ("program and libraries", "solver"):  # of this process, not of the one predicted
        del parts[name]
    found = []
    for run in runs:
        of = label(run)
        pruning = sum(predicted(model, "pruning", layer_work(*each.shape), of) for each in layers)
        at_work = max(
            4 * each.weights + predicted(model, "memory", memory_work(*each.shape), of)
            for each in layers
        )
        found.append(
            {
                "run": dict(run),
                "seconds": {**calibration, "pruning": pruning},
                "peak_bytes": sum(parts.values()) + at_work,
                "peak_with_certificates_bytes": sum(parts.values()) + max(at_work, certificate),
            }
        )
    return found


def _passes(model: Model, layers: Sequence[PlannedLayer], tokens: int, length: int) -> float:
    """Seconds of the passes: each decoder block runs twice over all windows (`prune_model`)."""
    blocks: dict[int, list[PlannedLayer]] = defaultdict(list)
    for layer in layers:
        blocks[layer.block].append(layer)
    works = [
        pass_work(length, sum(each.weights for each in group), group[0].shape[1])
        for group in blocks.values()
    ]
    return sum(2 * tokens / length * predicted(model, "pass", work) for work in works)
