"""Random models of tiny configurations, saved as checkpoints."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from tests.models.sweep.configs import tiny_config


def random_checkpoint(model_type: str, folder: Path) -> Path:
    torch.manual_seed(0)
    config = tiny_config(model_type)
    build: Any = AutoModelForCausalLM
    model = build.from_config(config, dtype=torch.float32).eval()
    randomise(model)
    model.save_pretrained(folder)
    return folder


@torch.no_grad()
def randomise(model: nn.Module) -> None:
    """Fresh weights are too small to change what comes after them, and many are all one number."""
    for name, weight in model.named_parameters():
        if not weight.is_floating_point():
            continue
        if weight.squeeze().dim() > 1 and "A_log" not in name:
            weight.normal_(std=0.25)
        else:
            weight.add_(torch.randn_like(weight), alpha=0.1)
