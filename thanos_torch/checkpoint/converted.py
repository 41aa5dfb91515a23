"""A checkpoint in another dtype: its tensors, each rounded once, and its config.json."""

import json
from typing import Any

import torch
from torch import Tensor

from thanos_torch.network.layers import dtype_name
from thanos_torch.runtime.strangers import printable, shown

AUTO = "auto"  # every tensor in the dtype that the checkpoint has it in
DTYPES = {dtype_name(each): each for each in (torch.float32, torch.bfloat16, torch.float16)}
CONFIG = "config.json"


def read_dtype(asked: torch.dtype | str, argument: str = "dtype") -> torch.dtype | None:
    """The dtype to write, by name or as it is; None for AUTO. Raises ValueError for any other."""
    name = dtype_name(asked) if isinstance(asked, torch.dtype) else asked
    if name != AUTO and name not in DTYPES:
        raise ValueError(
            f"{argument} must be one of {', '.join((AUTO, *DTYPES))}, got {shown(name)}"
        )
    return DTYPES.get(name)


def converted(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """The tensor in a dtype if it holds floating-point numbers, else and for None as it is."""
    return tensor if dtype is None or not tensor.is_floating_point() else tensor.to(dtype)


def converted_whole(name: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """As `converted`. Raises ValueError, naming the tensor, if a finite number becomes infinite."""
    found = converted(tensor, dtype)
    if found.dtype != tensor.dtype and not found.isinf().equal(tensor.isinf()):
        number = tensor[found.isinf() & tensor.isfinite()][0].item()
        raise ValueError(
            f"{printable(name)} holds {number:g}, which is too large for {dtype_name(found.dtype)}"
        )
    return found


def has_room(dtype: torch.dtype, other: torch.dtype) -> bool:
    """Whether a dtype's largest number is as large as that of another one."""
    return torch.finfo(dtype).max >= torch.finfo(other).max


def config_in(content: bytes, dtype: torch.dtype | None) -> bytes:
    """The content of config.json for weights in a dtype; for None, or if it says so, as it is."""
    config = json.loads(content)
    if dtype is None or not _name_dtype(config, dtype_name(dtype), needed=True):
        return content
    return (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()


def _name_dtype(config: dict[str, Any], name: str, *, needed: bool = False) -> bool:
    """Let a configuration, and the ones inside it, name a dtype; returns whether it changed.

    needed  name it also if the configuration names none
    """
    keys = [key for key in ("dtype", "torch_dtype") if key in config]
    keys = keys or (["dtype"] if needed else [])
    changed = [key for key in keys if config.get(key) != name]
    config |= dict.fromkeys(changed, name)
    inner = [
        _name_dtype(value, name)
        for key, value in config.items()
        if key.endswith("_config") and key != "quantization_config" and isinstance(value, dict)
    ]
    return bool(changed) or any(inner)
