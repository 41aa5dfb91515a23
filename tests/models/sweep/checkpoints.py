"""Checkpoints of tiny random models."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModelForCausalLM

from tests.models.sweep.configs import tiny_config


def save_random(model_type: str, folder: Path) -> str:
    """Save a random model of a registered name; returns the name of its class.

    If this Transformers cannot build the class, the folder holds the configuration and no more, and
    an empty name is returned.
    """
    config, build = tiny_config(model_type), AutoModelForCausalLM
    torch.manual_seed(0)
    try:
        model: Any = build.from_config(config, dtype=torch.float32)
    except Exception:  # whatever keeps it from that, `thanos prune` has to say it
        config.save_pretrained(folder)
        save_file({"weight": torch.zeros(2, 2)}, folder / "model.safetensors")
        return ""
    randomise(model)
    model.save_pretrained(folder)
    if type(model.config) is not type(config):  # a part of the one that the name stands for
        config.architectures = [type(model).__name__]
        config.save_pretrained(folder)
    return type(model).__name__


@torch.no_grad()
def randomise(model: nn.Module) -> None:
    """Make every weight random, also those of norms, biases and routers.

    Fresh weights are too small to change what comes after them, or all the same.
    """
    for name, weight in model.named_parameters():
        if weight.squeeze().dim() > 1 and not name.endswith("A_log"):
            weight.normal_(std=0.25)
        else:
            weight.add_(torch.randn_like(weight), alpha=0.1)
    for name, table in model.named_buffers():
        if name.endswith("tid2eid"):  # of DeepSeek V4: the experts of a token, by its id
            experts = len(model.get_parameter(f"{name.rpartition('.')[0]}.weight"))
            table.copy_(torch.rand(len(table), experts).argsort(1)[:, : table.shape[1]])
