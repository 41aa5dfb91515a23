"""Where a tensor lives: whether looking at its numbers is free, and whether kernels run there."""

import importlib.util
import os

import torch
from torch import Tensor

# Kinds of devices whose memory Python reads directly. All others are never waited for.
HOSTS = frozenset({"cpu"})


def on_host(tensor: Tensor) -> bool:
    """Whether Python can look at the numbers of a tensor without waiting for a device."""
    return is_host(tensor.device)


def is_host(device: torch.device | str) -> bool:
    """Whether Python can look at numbers on a device without waiting for it."""
    return torch.device(device).type in HOSTS


def has_kernels(tensor: Tensor) -> bool:
    """Whether Triton's kernels can work on a tensor: on a GPU, or anywhere in its interpreter."""
    runs = tensor.device.type == "cuda" or os.environ.get("TRITON_INTERPRET") == "1"
    return runs and importlib.util.find_spec("triton") is not None
