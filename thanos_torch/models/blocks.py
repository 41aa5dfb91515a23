"""What to prune in a model, found by its structure and not by its name."""

from torch import nn


def decoder_blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The name and the list of decoder blocks: the longest list of modules with linear layers.

    Raises ValueError if there is none.
    """
    candidates = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList)
        and len(module) > 0
        and all(any(isinstance(part, nn.Linear) for part in block.modules()) for block in module)
    ]
    if not candidates:
        raise ValueError(
            f"model {type(model).__name__} has no prunable layers: "
            "no list of decoder blocks with nn.Linear inside"
        )
    return max(candidates, key=lambda candidate: len(candidate[1]))


def prunable_layers(blocks: nn.ModuleList, prefix: str) -> list[dict[str, nn.Linear]]:
    """The linear layers of every block, by full name, in the order of the model.

    The output head and the embeddings are outside the blocks. Routers of mixtures of experts are
    inside but decide where tokens go; they are small and are left alone.
    """
    return [
        {
            f"{prefix}.{index}.{name}": module
            for name, module in block.named_modules()
            if isinstance(module, nn.Linear) and name.rpartition(".")[2] not in ("gate", "router")
        }
        for index, block in enumerate(blocks)
    ]
