"""The storage form for any mask: one bit per weight, and the kept weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from thanos_torch.forms.form import pack_bits, refuse_unfit, unpack_bits


@dataclass(frozen=True)
class Bitmask:
    """A pruned weight, (c, b), for unstructured masks and all others that no other form takes.

    bits    uint8, (⌈c·b/8⌉,): a bit per weight, row by row, 1 where it was removed
    values  the kept weights, row by row
    """

    shape: tuple[int, int]
    bits: Tensor
    values: Tensor

    @classmethod
    def pack(cls, weight: Tensor, mask: Tensor) -> Self:
        """Pack a weight by its mask, both (c, b). Raises ValueError if they do not fit."""
        refuse_unfit(weight, mask)
        rows, columns = weight.shape
        return cls((rows, columns), pack_bits(mask), weight[~mask])

    @classmethod
    def of(cls, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Self:
        """Make a form from its `tensors`. Raises ValueError if their sizes do not fit."""
        form = cls(shape, tensors["bits"], tensors["values"])
        kept = int((~form.mask()).sum())
        if form.values.shape != (kept,):
            raise ValueError(f"values must be {kept}, as bits says, got {len(form.values)}")
        return form

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The stored tensors by name."""
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
