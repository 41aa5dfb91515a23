"""Gram matrices of layers' inputs from a plain forward pass, by watching torch's functions.

Nothing here is shared with `thanos_torch.network`: it checks that package.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

# Functions whose first two tensors are multiplied; of addmm and baddbmm the last two.
_PRODUCTS = {
    *(functional.linear, torch.matmul, Tensor.matmul, Tensor.__matmul__, Tensor.__rmatmul__),
    *(torch.mm, Tensor.mm, torch.bmm, Tensor.bmm, torch.mv, Tensor.mv),
    *(torch.addmm, torch.baddbmm, Tensor.addmm, Tensor.baddbmm),
}


@torch.no_grad()
def input_grams(model: nn.Module, windows: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
    """X Xᵀ of some layers in float64; layers whose weight no product reads are left out."""
    with _Products(model, layers) as watch:
        for window in windows:
            model(window[None], use_cache=False)
    return watch.grams


class _Products(TorchFunctionMode):
    def __init__(self, model: nn.Module, layers: Iterable[str]) -> None:
        super().__init__()
        self.grams: dict[str, Tensor] = {}
        self._names = {weight_of(model, name).data_ptr(): name for name in layers}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in _PRODUCTS:
            tensors = [each for each in (*args, *(kwargs or {}).values()) if _is_tensor(each)]
            added = func.__name__ in ("addmm", "baddbmm")
            left, right = tensors[1:3] if added else tensors[:2]
            if func is Tensor.__rmatmul__:
                left, right = right, left
            for name, inputs in self._multiplied(left, right):
                rows = inputs.reshape(-1, inputs.shape[-1]).double()
                self.grams[name] = self.grams.get(name, 0) + rows.T @ rows
        return func(*args, **(kwargs or {}))

    def _multiplied(self, left: Tensor, right: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Layers whose weight is a factor, each with its inputs (..., b)."""
        columns = left if left.dim() < 2 else left.mT
        for weight, inputs in ((right, left), (left, columns if left is None else _columns(right))):
            if weight.dim() == 3:  # experts, each with its own inputs
                batches = inputs.expand(len(weight), *inputs.shape[-2:])
                each = zip(weight, batches, strict=True)
            else:
                each = iter([(weight, inputs)])
            for matrix, batch in each:
                if name := self._names.get(matrix.data_ptr()):
                    yield name, batch


def _columns(factor: Tensor) -> Tensor:
    return factor[None] if factor.dim() == 1 else factor.mT


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def weight_of(model: nn.Module, layer: str) -> Tensor:
    """The weight of a layer by its name in `thanos.json`: a matrix, or a slice of a parameter."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    if f"{layer}.weight" in parameters:
        return parameters[f"{layer}.weight"]
    module, number, attribute = layer.rsplit(".", 2)
    return parameters[f"{module}.{attribute}"][int(number)]
