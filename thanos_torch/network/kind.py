"""What kind of model a config names; refuse those whose decoder reads an encoder's output."""

import inspect
from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from thanos_torch.network.layers import found_layers

_WHY = (
    "reads what an encoder makes of another text, image or sound, which a text to calibrate with "
    "or to score lacks: only language models without an encoder can be pruned or evaluated here"
)


def class_names(config: Any) -> list[str]:
    """The names of classes that a config has under `architectures`, as a rule one."""
    names = getattr(config, "architectures", None)
    listed = names if isinstance(names, list | tuple) else [names]
    return [name for name in listed if isinstance(name, str)]


def refuse_encoder_decoder(config: Any, name: str) -> None:
    """Raise ValueError for the config of an encoder-decoder.

    name  what the model is called in the message
    """
    if getattr(config, "is_encoder_decoder", False) is True:
        raise ValueError(f"{name} is an encoder-decoder: its decoder {_WHY}")


def refuse_idle_cross_attention(
    model: nn.Module, blocks: Mapping[str, nn.Module], reached: Collection[str]
) -> None:
    """Raise ValueError for a decoder that was cut out of an encoder-decoder.

    blocks   decoder blocks by name
    reached  names of the layers that a pass over a text has run

    Its blocks have a part that only runs if they are given an encoder's output.
    """
    for (prefix, block), layers in zip(blocks.items(), found_layers(blocks), strict=True):
        if "encoder_hidden_states" not in inspect.signature(block.forward).parameters:
            continue
        for part, _ in block.named_children():
            name = f"{prefix}.{part}"
            inside = [
                each
                for each, layer in layers.items()
                if layer.expert is None and f"{each}.".startswith(f"{name}.")
            ]
            if inside and not any(each in reached for each in inside):
                kind = type(model).__name__
                raise ValueError(f"{kind} is the decoder of an encoder-decoder: its {name} {_WHY}")
