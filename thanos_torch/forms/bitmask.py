"""A storage form for any mask: one bit a weight, and the kept weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from thanos_torch.forms.form import pack_bits, refuse_unfit, unpack_bits


@dataclass(frozen=True)
class Bitmask:
    """For unstructured masks, and for all that fit no other form.

    bits    uint8, (⌈c·b/8⌉,): a bit a weight, row by row, 1 where it was removed
    values  the kept weights, row by row
    """

    shape: tuple[int, int]
    bits: Tensor
    values: Tensor

    @classmethod
    def pack(cls, weight: Tensor, mask: Tensor) -> Self:
        """Weight and mask (c, b). Raises ValueError if a removed weight is not +0.0."""
        refuse_unfit(weight, mask)
        rows, columns = weight.shape
        return cls((rows, columns), pack_bits(mask), weight[~mask])

    @classmethod
    def of(cls, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Self:
        """From its tensors. Raises ValueError where their sizes do not fit."""
        form = cls(shape, tensors["bits"], tensors["values"])
        kept = int((~form.mask()).sum())
        if form.values.shape != (kept,):
            raise ValueError(f"values must be {kept}, as bits says, got {len(form.values)}")
        return form

    @property
    def tensors(self) -> dict[str, Tensor]:
        """By name, as `of` wants them."""
        return {"bits": self.bits, "values": self.values}

    def mask(self) -> Tensor:
        """(c, b) bool, True where a weight was removed."""
        rows, columns = self.shape
        return unpack_bits(self.bits, rows * columns).view(self.shape)

    def weight(self) -> Tensor:
        """(c, b), every bit as it was."""
        weight = self.values.new_zeros(self.shape)
        weight[~self.mask()] = self.values
        return weight
