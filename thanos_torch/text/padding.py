"""Windows of token ids as a model reads them: checked, and without their padding."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class EqualWindows:
    """Windows of one length, without padding.

    numbers  their places among all windows
    ids      (windows, length) token ids
    """

    numbers: list[int]
    ids: Tensor


def real_windows(
    model: nn.Module,
    windows: Tensor,
    attention_mask: Tensor | None = None,
    argument: str = "dataset",
) -> list[EqualWindows]:
    """Windows without their padding, grouped by length, the longest first.

    A model gives a window without its padding what it should give it with padding, whatever it
    makes of masks and positions. So nothing else has to know about padding.

    windows         (windows, seqlen) token ids that suit the model; padding may be any number
    attention_mask  of the same shape: 1 or True for the tokens of a window, 0 or False for padding
                    before or behind them; None if there is no padding
    argument        names where the windows come from, for messages

    Raises ValueError for windows or a mask that are not so.
    """
    _check_ids(windows)
    if attention_mask is None:
        groups = [EqualWindows(list(range(len(windows))), windows)]
    else:
        groups = _grouped(windows, _checked_mask(attention_mask, windows))
    for group in groups:
        _check_for(model, group.ids, argument)
    return groups


def _grouped(windows: Tensor, mask: Tensor) -> list[EqualWindows]:
    lengths = mask.sum(dim=1)
    groups = []
    for length in lengths.unique().flip(0).tolist():
        rows = (lengths == length).nonzero()[:, 0]
        ids = windows[rows][mask[rows]].view(len(rows), length)
        groups.append(EqualWindows(rows.tolist(), ids))
    return groups


def _checked_mask(mask: Tensor, windows: Tensor) -> Tensor:
    """The mask as booleans, where the windows are. Raises ValueError for what is no such mask."""
    name = "attention_mask"
    if not isinstance(mask, Tensor) or mask.is_floating_point() or mask.is_complex():
        kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"{name} must be a tensor of integers 0 and 1, or of booleans, got {kind}")
    if mask.shape != windows.shape:
        shapes = f"{tuple(windows.shape)}, got {tuple(mask.shape)}"
        raise ValueError(f"{name} must have the shape of windows, {shapes}")
    _refuse_unreadable(mask, name)
    mask = mask.to(windows.device)
    if mask.dtype != torch.bool and not ((mask == 0) | (mask == 1)).all():
        other = mask[(mask != 0) & (mask != 1)][0].item()
        raise ValueError(f"{name} must hold 0 and 1, got {other}")
    mask = mask.bool()
    if empty := (~mask.any(dim=1)).nonzero().flatten().tolist():
        raise ValueError(f"{name} leaves window {empty[0]} no token")
    # Tokens in one piece begin once: behind padding, or at the beginning.
    begins = mask[:, 0].long() + (mask[:, 1:] & ~mask[:, :-1]).sum(dim=1)
    if broken := (begins > 1).nonzero().flatten().tolist():
        raise ValueError(
            f"{name} must have 0 before or behind the tokens of a window, and has it between those "
            f"of window {broken[0]}"
        )
    return mask


def _check_ids(windows: Tensor) -> None:
    """Raise ValueError unless windows are a plain tensor of whole numbers, (windows, seqlen)."""
    if isinstance(windows, Mapping) or hasattr(windows, "input_ids"):  # what a tokenizer returns
        raise ValueError(
            f"windows must be a tensor of token ids, got a {type(windows).__name__}: give its "
            '"input_ids", and its "attention_mask" as attention_mask'
        )
    if not isinstance(windows, Tensor) or windows.dtype not in (torch.int64, torch.int32):
        kind = windows.dtype if isinstance(windows, Tensor) else type(windows).__name__
        raise ValueError(f"windows must be a tensor of token ids, int64 or int32, got {kind}")
    _refuse_unreadable(windows, "windows")
    if windows.dim() != 2 or not windows.numel():
        shape = tuple(windows.shape)
        raise ValueError(f"windows must have the shape (windows, seqlen), got {shape}")


def _refuse_unreadable(tensor: Tensor, name: str) -> None:
    if tensor.is_meta or tensor.layout is not torch.strided:
        what = "without content" if tensor.is_meta else tensor.layout
        raise ValueError(f"{name} must be a plain tensor of whole numbers, got one {what}")


def _check_for(model: nn.Module, windows: Tensor, argument: str) -> None:
    """Raise ValueError unless windows without padding suit a model."""
    if int(windows.min()) < 0:
        raise ValueError(f"windows must hold token ids, got {int(windows.min())}")
    most = of_text_config(model, "max_position_embeddings")
    if most is not None and windows.shape[1] > most:
        raise ValueError(f"seqlen must be at most {most} for this model, got {windows.shape[1]}")
    words = of_text_config(model, "vocab_size")
    if words is not None and int(windows.max()) >= words:
        raise ValueError(
            f"{argument} must have token ids below {words}, the model's vocabulary, got "
            f"{int(windows.max())}"
        )


def of_text_config(model: nn.Module, name: str) -> int | None:
    """A number of a model's config, None if that is below 1, which some write for none.

    Models of text and images nest the config of the text.
    """
    config: Any = getattr(model, "config", None)
    if hasattr(config, "get_text_config"):
        config = config.get_text_config()
    value = getattr(config, name, None)
    return value if isinstance(value, int) and value >= 1 else None
