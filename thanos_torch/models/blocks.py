"""What to prune in a model, found by its structure and not by its name."""

import re

import torch
from torch import nn

# Routers of mixtures of experts look like any other linear layer: only what models call them tells.
_ROUTER = re.compile(r"(^|\.)(gate|gating|shared_expert_gate|\w*router\w*)(\.|$)")
_PRUNABLE_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def decoder_blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The name and the list of decoder blocks: the longest list of modules with linear layers.

    A list inside such a list (of experts, say) does not count. Raises ValueError if there is none.
    """
    found: dict[str, nn.ModuleList] = {}
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, nn.ModuleList) and not inside and _all_have_linear_layers(module):
            found[name] = module
    if not found:
        raise ValueError(
            f"model {type(model).__name__} has no prunable layers: "
            "no list of decoder blocks with nn.Linear inside"
        )
    return max(found.items(), key=lambda item: len(item[1]))


def prunable_layers(blocks: nn.ModuleList, prefix: str) -> list[dict[str, nn.Linear]]:
    """The linear layers of every block, by full name, in the order of the model.

    The output head and the embeddings are outside the blocks. Routers are inside, but they are
    small and decide where tokens go: they are left alone. Raises ValueError if layers share a
    weight, or hold no plain floating-point numbers, as in quantised models.
    """
    layers = [
        {
            f"{prefix}.{index}.{name}": module
            for name, module in block.named_modules()
            if isinstance(module, nn.Linear) and not _ROUTER.search(name)
        }
        for index, block in enumerate(blocks)
    ]
    owners: dict[int, str] = {}
    for name, layer in ((name, layer) for group in layers for name, layer in group.items()):
        if layer.weight.dtype not in _PRUNABLE_DTYPES:
            raise ValueError(f"{name} holds {layer.weight.dtype}, which cannot be pruned")
        owner = owners.setdefault(id(layer.weight), name)
        if owner != name:
            raise ValueError(f"{name} and {owner} share one weight, which cannot be pruned")
    return layers


def layer_shapes(layers: list[dict[str, nn.Linear]]) -> dict[str, tuple[int, int]]:
    """The shape (c, b) of every layer, by name, as `prunable_layers` gives them."""
    return {
        name: (layer.out_features, layer.in_features)
        for group in layers
        for name, layer in group.items()
    }


def other_weights(blocks: nn.ModuleList, prefix: str) -> list[str]:
    """Names of the matrices inside the blocks that are no prunable layer's weight.

    Routers, and whatever is no nn.Linear: experts fused into one tensor, Conv1D, convolutions.
    """
    prunable = {f"{name}.weight" for group in prunable_layers(blocks, prefix) for name in group}
    names = [f"{prefix}.{name}" for name, weight in blocks.named_parameters() if weight.dim() > 1]
    return [name for name in names if name not in prunable]


def _all_have_linear_layers(modules: nn.ModuleList) -> bool:
    return len(modules) > 0 and all(
        any(isinstance(part, nn.Linear) for part in module.modules()) for module in modules
    )
