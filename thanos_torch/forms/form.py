"""The interface of all storage forms of a pruned weight; their checks, and packing of bits."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_BITS = torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8)  # the highest first


class Form(Protocol):
    """A pruned weight, (c, b), stored in fewer bytes."""

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The stored tensors by name."""

    def mask(self) -> Tensor:
        """(c, b) bool, True where a weight was removed."""

    def weight(self) -> Tensor:
        """(c, b), every bit as it was."""


def stored_bytes(form: Form) -> int:
    """The bytes of all tensors of a form."""
    return sum(tensor.nbytes for tensor in form.tensors.values())


def bits_of(tensor: Tensor) -> Tensor:
    """The same memory as integers, among which −0.0 is not zero and NaN equals itself."""
    return tensor.contiguous().view(_INTEGERS[tensor.itemsize])


def refuse_unfit(weight: Tensor, mask: Tensor) -> None:
    """Raise ValueError unless the mask fits the weight and every removed weight is +0.0."""
    if weight.dim() != 2 or not weight.is_floating_point():
        raise ValueError(
            f"weight must be a matrix of floating-point numbers, got {weight.dtype} "
            f"of shape {tuple(weight.shape)}"
        )
    if mask.dtype != torch.bool or mask.shape != weight.shape:
        raise ValueError(
            f"mask must be bool of shape {tuple(weight.shape)}, got {mask.dtype} "
            f"of shape {tuple(mask.shape)}"
        )
    lost = int((bits_of(weight)[mask] != 0).sum())
    if lost:
        raise ValueError(f"weight must be +0.0 where mask is True, got {lost} other numbers there")


def outlier_rows(mask: Tensor) -> Tensor:
    """Indices of rows without a removed weight, int32; empty if no row has any."""
    whole = ~mask.any(dim=1)
    if bool(whole.all()):
        whole = torch.zeros_like(whole)
    return whole.nonzero().flatten().int()


def refuse_indices(name: str, indices: Tensor, below: int) -> None:
    """Raise ValueError unless the indices are in [0, below) and strictly ascending."""
    ordered = indices.dim() == 1 and bool((indices.diff() > 0).all())
    if not ordered or (len(indices) and not (indices[0] >= 0 and indices[-1] < below)):
        raise ValueError(f"{name} must be ascending indices below {below}")


def refuse_shape(name: str, tensor: Tensor, expected: tuple[int, int]) -> None:
    """Raise ValueError unless a tensor has the expected shape."""
    if tensor.shape != expected:
        raise ValueError(f"{name} must have the shape {expected}, got {tuple(tensor.shape)}")


def bytes_of_bits(bits: int) -> int:
    """⌈bits / 8⌉."""
    return -(-bits // 8)


def pack_bits(flags: Tensor) -> Tensor:
    """Bool flags of any shape as uint8, (⌈count / 8⌉,): as `numpy.packbits`, zeros at the end."""
    flat = flags.reshape(-1)
    padded = torch.nn.functional.pad(flat, (0, -len(flat) % 8)).view(-1, 8)
    return (padded.view(torch.uint8) * _BITS.to(flags.device)).sum(dim=1, dtype=torch.uint8)


def unpack_bits(packed: Tensor, count: int) -> Tensor:
    """The first `count` flags, bool, (count,)."""
    if packed.numel() != bytes_of_bits(count):
        raise ValueError(f"packed must hold {bytes_of_bits(count)} bytes, got {packed.numel()}")
    flags = (packed[:, None] & _BITS.to(packed.device)).bool()  # (bytes, 8)
    return flags.view(-1)[:count]


def pack_codes(codes: Tensor, width: int) -> Tensor:
    """Codes below 2**width, int64, (count,), in ceil(count * width / 8) bytes."""
    bits = torch.empty(len(codes), width, dtype=torch.bool, device=codes.device)
    for place in range(width):
        bits[:, place] = ((codes >> (width - 1 - place)) & 1).bool()
    return pack_bits(bits)


def unpack_codes(packed: Tensor, count: int, width: int) -> Tensor:
    """What `pack_codes` was given."""
    bits = unpack_bits(packed, count * width).view(count, width)
    codes = torch.zeros(count, dtype=torch.int64, device=packed.device)
    for place in range(width):
        codes = (codes << 1) | bits[:, place]
    return codes
