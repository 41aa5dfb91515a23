"""The units of a layer: powers of two that bring max|W| and mean(diag G) near 1. Spec T7.

Scaling by a power of two rounds nothing. On a device the exponents are not known to the host, and
every power is a pair of factors there, because a power alone may overflow.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LARGE = 120  # powers of two up to this one are float32 numbers
BIAS, FRACTION = 1023, 52  # of the bits of a float64 number

Power = int | tuple[Tensor, Tensor]  # an exponent, or two factors, () each


@dataclass(frozen=True)
class Units:
    """Powers of two by which a layer's numbers are multiplied.

    weight   into the units of weights
    restore  out of them again
    gram     into the units of G, a power of four, so that square roots scale exactly as well
    losses   out of the units of losses
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
        """`of_sizes` of two numbers on a device, () each."""
        sizes = torch.stack([largest.double(), mean])
        exponents = torch.frexp(sizes).exponent.long() - 1
        exponents.masked_fill_(sizes == 0, 0)
        weight, mean_exponent = exponents.unbind()
        gram = torch.div(mean_exponent, 2, rounding_mode="floor") * 2
        wanted = torch.stack([-weight, weight, -gram, 2 * weight + gram])
        half = torch.div(wanted, 2, rounding_mode="floor")
        halves = (torch.stack([half, wanted - half]) + BIAS).bitwise_left_shift(FRACTION)
        first, second = halves.view(torch.float64).unbind()
        return cls(*zip(first.unbind(), second.unbind(), strict=True))


def times(values: Tensor, power: Power) -> Tensor:
    """Values times 2**power, exact, in new memory."""
    if isinstance(power, tuple):
        return (values * power[0]).mul_(power[1])
    if abs(power) > LARGE:
        return times_in_place(values.clone(), power)
    return values * 2.0**power


def times_in_place(values: Tensor, power: Power) -> Tensor:
    """Values times 2**power, in two halves where the factor itself may overflow."""
    if isinstance(power, tuple):
        return values.mul_(power[0]).mul_(power[1])
    if abs(power) > LARGE:
        half = power // 2
        return values.mul_(2.0**half).mul_(2.0 ** (power - half))
    return values.mul_(2.0**power) if power else values


def _exponent(value: float) -> int:
    """The e with 2**e <= value < 2**(e + 1); 0 for 0."""
    return math.frexp(value)[1] - 1 if value else 0
