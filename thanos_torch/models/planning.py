"""What a run would do to a model, from its configuration alone: no weight is loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reference.patterns import SemiStructured, Unstructured
from thanos_torch.models.blocks import decoder_blocks, layer_shapes, prunable_layers
from thanos_torch.models.layers import Layer
from thanos_torch.models.loading import DEFAULT_MODEL
from thanos_torch.models.quiet import quiet_transformers
from thanos_torch.models.rules import Choice, Dense, Rules

# SmolLM2-135M-Instruct: a dry run need not download it.
_SMOLLM2: dict[str, Any] = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}


@dataclass(frozen=True)
class PlannedLayer:
    """A layer of a model that is not there yet.

    shape    (c, b)
    block    index of its decoder block
    reads    the first layer of its block that reads the same input; its own name if that is it
    removed  how many weights go
    """

    name: str
    shape: tuple[int, int]
    block: int
    reads: str
    choice: Choice
    removed: int


def meta_model(source: str, *, trust_remote_code: bool = False) -> Any:
    """A model without memory for its weights; arguments and errors as of `load_model`."""
    from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

    path = Path(source)
    build: Any = AutoModelForCausalLM  # whose methods lack type hints
    try:
        with quiet_transformers(), torch.device("meta"):
            if source == DEFAULT_MODEL:
                config: Any = LlamaConfig(**_SMOLLM2)
            elif path.is_file() and path.suffix == ".gguf":
                config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
            else:
                config = AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)
            dtype = config.dtype or torch.float32
            model = build.from_config(config, dtype=dtype, trust_remote_code=trust_remote_code)
            return model.eval()
    except Exception as error:  # readers of configurations raise what they like
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise ValueError(f"model {source!r} cannot be planned for: {reason[0]}") from error


def planned_layers(model: nn.Module, rules: Rules) -> list[PlannedLayer]:
    """Every layer that could be pruned, in the order of the model; errors as of `prune_model`."""
    prefix, blocks = decoder_blocks(model)
    groups = prunable_layers(blocks, prefix)
    shapes = layer_shapes(groups)
    plan, reads = rules.plan(shapes), _shared_inputs(model, groups)
    return [
        PlannedLayer(
            name, shapes[name], index, reads[name], plan[name], removed(plan[name], shapes[name])
        )
        for index, group in enumerate(groups)
        for name in group
    ]


def removed(choice: Choice, shape: tuple[int, int]) -> int:
    """How many weights of a (c, b) layer go: the counts of spec sections 2 and 6."""
    if isinstance(choice, Dense):
        return 0
    pattern, (rows, columns) = choice.pattern, shape
    if isinstance(pattern, Unstructured):
        if choice.method == "wanda":
            return rows * pattern.removed(columns)
        return pattern.removed(rows * columns)
    rows -= pattern.outliers(rows)
    if isinstance(pattern, SemiStructured):
        return rows * columns // pattern.m * pattern.n
    return rows * pattern.removed(columns)


@torch.no_grad()
def _shared_inputs(model: nn.Module, groups: list[dict[str, Layer]]) -> dict[str, str]:
    """For every layer the first that reads the very same tensor, in a forward pass of shapes.

    Models that cannot run without numbers (experts, which look at what the router says) count as
    if every layer had an input of its own: more work and memory than there will be.
    """
    reads = {name: name for group in groups for name in group}
    seen: dict[int, tuple[str, Tensor]] = {}  # holding the tensors keeps their ids unique

    def hook(name: str) -> Any:
        def look(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            reads[name] = seen.setdefault(id(args[0]), (name, args[0]))[0]

        return look

    handles = [
        layer.module.register_forward_pre_hook(hook(name))
        for group in groups
        for name, layer in group.items()
        if layer.expert is None
    ]
    try:
        # With a cache, for without one Transformers looks for packed sequences, in the numbers.
        model(torch.zeros(1, 8, dtype=torch.long, device="meta"), use_cache=True)
    except (RuntimeError, NotImplementedError):  # what PyTorch raises where numbers are needed
        return {name: name for name in reads}
    finally:
        for handle in handles:
            handle.remove()
    return reads
