"""Checks of layers on a device, answered by one look at the device for all of them.

Nothing waits for a device while a layer is pruned. What would be refused, and what the kernels left
unfinished, is kept in numbers on the device. `Checks.look` reads them, and then raises the error of
the first refused layer, or completes the results.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Checks:
    """Checks of layers that were pruned and not looked at yet.

    Pass one to the calls of several layers, and call `look` before their results are used. Without
    one, every call looks at its own layer before it returns.
    """

    _numbers: list[Tensor] = field(default_factory=list)
    _answers: list[Callable[[list[float]], None]] = field(default_factory=list)
    _name: str = ""

    def named(self, name: str) -> "Checks":
        """The same checks, for one layer: errors of what is added through it begin with `name`."""
        return Checks(self._numbers, self._answers, name)

    def add(self, numbers: Tensor, answer: Callable[[list[float]], None]) -> None:
        """Keep numbers, (n,) in float64 on a device, and the function that is called with them."""
        self._numbers.append(numbers)
        self._answers.append(_naming(self._name, answer) if self._name else answer)

    def look(self) -> None:
        """Wait for the device once. Raises ValueError for the first layer that is refused."""
        numbers, answers = [*self._numbers], [*self._answers]
        self._numbers.clear()
        self._answers.clear()
        if not numbers:
            return
        lengths = [len(some) for some in numbers]
        together = torch.cat([some.to(numbers[0].device) for some in numbers])
        values = together.tolist()  # the only wait
        for length, answer in zip(lengths, answers, strict=True):
            answer(values[:length])
            values = values[length:]


def _naming(name: str, answer: Callable[[list[float]], None]) -> Callable[[list[float]], None]:
    """The same answer; its errors begin with a name."""

    def named(numbers: list[float]) -> None:
        try:
            answer(numbers)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    return named
