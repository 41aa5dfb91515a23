"""The units of a layer: powers of two that bring max|W| and mean(diag G) near 1. Spec T7.

Scaling by a power of two rounds nothing. On a device the host does not know the exponents, and a
power is a tensor there.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LARGE = 120  # powers of two up to this one are float32 numbers
# On a device: the bits of a float64 number that are its exponent, and how far exponents go. Numbers
# beyond come that much nearer to 1, which is near enough.
EXPONENT = 0x7FF << 52
FARTHEST = {torch.float32: LARGE, torch.float64: 1000}

Power = int | Tensor  # an exponent, or the power itself, ()


@dataclass(frozen=True)
class Units:
    """Powers of two by which a layer's numbers are multiplied.

    weight   into the units of weights
    restore  out of them again
    gram     into the units of G, a power of four, so that square roots scale exactly as well
    losses   out of the units of losses; on a device the root of that, which cannot overflow
    """

    weight: Power
    restore: Power
    gram: Power
    losses: Power

    @classmethod
    def of_exponents(cls, weight: int, gram: int) -> "Units":
        """Units of 2**weight for weights and 2**gram for G."""
        return cls(-weight, weight, -gram, 2 * weight + gram)

    @classmethod
    def of_sizes(cls, largest: float, mean: float) -> "Units":
        """Units in which max|W| and mean(diag G) are near 1; 1 for those that are 0."""
        return cls.of_exponents(_exponent(largest), 2 * (_exponent(mean) // 2))

    @classmethod
    def on_device(cls, largest: Tensor, mean: Tensor) -> "Units":
        """`of_sizes` of two numbers on a device, () each; any units for those that are 0."""
        farthest = FARTHEST[torch.float64 if largest.dtype == torch.float64 else torch.float32]
        sizes = torch.cat([largest[None], mean.sqrt()[None]])  # float64, as `mean` is
        # A float64 number without its fraction is a power of two.
        powers = (sizes.view(torch.int64) & EXPONENT).view(torch.float64)
        # Half as far, because the unit of G is the square of its power here.
        powers = powers.clamp_(2.0 ** (-farthest // 2), 2.0 ** (farthest // 2))
        inverse = powers.reciprocal()
        return cls(inverse[0], powers[0], inverse.square()[1], powers.prod())

    def restored_losses(self, losses: Tensor) -> Tensor:
        """Losses, float64, in the units of the original."""
        if isinstance(self.losses, Tensor):
            return (losses * self.losses).mul_(self.losses)
        return times(losses, self.losses)


def times(values: Tensor, power: Power) -> Tensor:
    """Values times 2**power, exact, in new memory."""
    if isinstance(power, Tensor):
        return values * power
    if abs(power) > LARGE:
        return times_in_place(values.clone(), power)
    return values * 2.0**power


def times_in_place(values: Tensor, power: Power) -> Tensor:
    """Values times 2**power, in two halves where the factor itself may overflow."""
    if isinstance(power, Tensor):
        return values.mul_(power)
    if abs(power) > LARGE:
        half = power // 2
        return values.mul_(2.0**half).mul_(2.0 ** (power - half))
    return values.mul_(2.0**power) if power else values


def _exponent(value: float) -> int:
    """The e with 2**e <= value < 2**(e + 1); 0 for 0."""
    return math.frexp(value)[1] - 1 if value else 0
