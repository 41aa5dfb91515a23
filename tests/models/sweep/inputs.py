"""Gram matrices of layers' inputs in a plain forward pass, by watching torch's functions.

Nothing here is shared with `thanos_torch.network`, which this checks.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

# Functions of two factors, and of a summand and two factors.
_PRODUCTS = {
    *(functional.linear, torch.matmul, Tensor.matmul, Tensor.__matmul__),
    *(torch.mm, Tensor.mm, torch.bmm, Tensor.bmm),
}
_SUMS = {torch.addmm, torch.baddbmm}


@torch.no_grad()
def input_grams(
    model: nn.Module, windows: Tensor, weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """X Xᵀ of layers in float64, by name; those whose weight no product reads are left out.

    weights  of each layer, as a view of the model's parameter
    """
    watch = _Products(weights)
    with watch:
        for window in windows:
            model(window[None], use_cache=False)
    return watch.grams


class _Products(TorchFunctionMode):
    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.grams: dict[str, Tensor] = {}
        self._names = {weight.data_ptr(): name for name, weight in weights.items()}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in _PRODUCTS or func in _SUMS:
            given = (*args, *(kwargs or {}).values())
            left, right = given[1:3] if func in _SUMS else given[:2]
            for name, inputs in self._inputs(left, right):
                rows = inputs.reshape(-1, inputs.shape[-1]).double()
                self.grams[name] = self.grams.get(name, 0) + rows.T @ rows
        return func(*args, **(kwargs or {}))

    def _inputs(self, left: Tensor, right: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The layers whose weight is a factor, each with its inputs, (..., b)."""
        for weight, other in ((right, left), (left, right)):
            inputs = other if weight is right else other.mT
            each = [(weight, inputs)]
            if weight.dim() == 3:  # experts, each with its own inputs
                each = list(zip(weight, inputs.expand(len(weight), -1, -1), strict=True))
            for matrix, batch in each:
                if name := self._names.get(matrix.data_ptr()):
                    yield name, batch
