"""Observes which weights a run of PyTorch code sets to zero, without changing the run."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class Observer(TorchFunctionMode):
    """Sees every call of a function of PyTorch, before and after it, and changes none."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do what was asked for, between the two looks."""
        self.before(func, args)
        returned = func(*args, **(kwargs or {}))
        self.after(func, returned)
        return returned

    def before(self, func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Look at a call that is about to be made."""

    def after(self, func: Callable[..., Any], returned: Any) -> None:
        """Look at what a call returned."""


class Zeroed(Observer):
    """Records the boolean masks by which weights are set to zero, column after column.

    The weight alone does not tell: a kept weight may be 0 as well. Only assignments like
    `W[mask] = 0` are recorded, where `mask` has one or two dimensions and one row for each row.

    rows  rows that are chosen among
    """

    def __init__(self, rows: int) -> None:
        super().__init__()
        self._rows = rows
        self._parts: list[torch.Tensor] = []

    def before(self, func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Record an assignment."""
        if func is torch.Tensor.__setitem__ and self._is_choice(*args[1:]):
            self._parts.append(args[1].clone().reshape(self._rows, -1))

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
