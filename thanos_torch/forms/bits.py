"""Bits and short codes in bytes, the first bit of a byte its highest, as in `numpy.packbits`."""

import torch
from torch import Tensor


def pack_bits(flags: Tensor) -> Tensor:
    """Flags of any shape, bool, as ceil(count / 8) bytes, uint8; the last is filled with zeros."""
    flat = flags.reshape(-1)
    padded = torch.nn.functional.pad(flat, (0, -len(flat) % 8)).view(-1, 8)
    packed = torch.zeros(len(padded), dtype=torch.uint8, device=flags.device)
    for place in range(8):
        packed |= padded[:, place].to(torch.uint8) << (7 - place)
    return packed


def unpack_bits(packed: Tensor, count: int) -> Tensor:
    """The first `count` flags, bool, (count,)."""
    if packed.numel() != -(-count // 8):
        raise ValueError(f"packed must hold {-(-count // 8)} bytes, got {packed.numel()}")
    flags = torch.empty(len(packed), 8, dtype=torch.bool, device=packed.device)
    for place in range(8):
        flags[:, place] = ((packed >> (7 - place)) & 1).bool()
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
