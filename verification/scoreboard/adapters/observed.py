"""Observes which weights a run of PyTorch code sets to zero, without changing the run."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class Zeroed(TorchFunctionMode):
    """Records the boolean masks by which weights are set to zero, column after column.

    The weight alone does not tell: a kept weight may be 0 as well. Only assignments like
    `W[mask] = 0` are recorded, where `mask` has one or two dimensions and one row for each row.

    rows  rows that are chosen among
    """

    def __init__(self, rows: int) -> None:
        super().__init__()
        self._rows = rows
        self._parts: list[torch.Tensor] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Record an assignment, and do what was asked for."""
        if func is torch.Tensor.__setitem__ and self._is_choice(*args[1:]):
            self._parts.append(args[1].clone().reshape(self._rows, -1))
        return func(*args, **(kwargs or {}))

    def _is_choice(self, index: Any, value: Any) -> bool:
        return (
            isinstance(index, torch.Tensor)
            and index.dtype == torch.bool
            and index.ndim in (1, 2)
            and len(index) == self._rows
            and is_zero(value)
        )

    def mask(self) -> torch.Tensor:
        """All recorded masks side by side, (rows, columns): the columns in the order of the run."""
        return torch.cat([part for part in self._parts if part.numel()], dim=1)


def is_zero(value: Any) -> bool:
    """Whether an assigned value is the number 0."""
    return isinstance(value, int | float) and value == 0
