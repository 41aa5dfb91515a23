"""Inputs of weights that are multiplied outside of a module's own forward pass."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from thanos_torch.network.layers import PrunableLayer
from thanos_torch.network.memory import extent

_ATEN = torch.ops.aten
# The places of the two factors in the arguments of each product.
_FACTORS: dict[Any, tuple[int, int]] = {
    _ATEN.mm.default: (0, 1),
    _ATEN.bmm.default: (0, 1),
    _ATEN.mv.default: (0, 1),
    _ATEN.addmm.default: (1, 2),
    _ATEN.baddbmm.default: (1, 2),
    _ATEN.addmv.default: (1, 2),
}
_COPIES = {_ATEN.clone.default, _ATEN._to_copy.default}
_Place = tuple[int, tuple[int, ...], tuple[int, ...]]


class WeightProducts(TorchDispatchMode):
    """Watches the products of inputs with some layers' weights, whoever calculates them.

    Experts are slices of one parameter, and some models multiply by a linear layer's weight
    without calling the layer, so no hook sees their inputs. But every product comes down to a few
    operations of torch, whose operands are views of the weights or copies of them.
    """

    def __init__(
        self,
        layers: Iterable[PrunableLayer],
        look: Callable[[str, Tensor], None],
        hidden: Callable[[PrunableLayer, str], None],
    ) -> None:
        """Watch the weights of `layers`; of experts all that are in the same parameter.

        look    called with a layer's name and its inputs, (tokens, b)
        hidden  called with a layer, or another expert of its parameter, and the operation that
                its weight goes into, if that is none of those whose inputs can be told
        """
        super().__init__()
        self._look, self._hidden = look, hidden
        self.layers = list(layers)
        self._copies: list[tuple[Tensor, PrunableLayer, bool]] = []

    def __enter__(self) -> Any:
        self._watched = {layer.name for layer in self.layers}
        stored = {layer.stored.data_ptr(): layer for layer in self.layers}
        # Where in memory the parameters begin, in order.
        self._starts = sorted(stored)
        self._parameters = [stored[start] for start in self._starts]
        self._places: dict[_Place, tuple[PrunableLayer, bool]] = {}
        for layer in self._parameters:
            for expert in range(layer.experts):
                # Its name is no layer's: others of the same parameter may not be watched.
                other = replace(layer, name=f"{layer.parameter}[{expert}]", expert=expert)
                self._remember(other)
        for layer in self.layers:
            self._remember(layer)
        return super().__enter__()

    def _remember(self, layer: PrunableLayer) -> None:
        self._places[_place(layer.matrix)] = layer, False
        self._places[_place(layer.matrix.T)] = layer, True

    def next_batch(self) -> None:
        """Forget copies of weights."""
        self._copies.clear()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation; if it multiplies inputs by a watched weight, report them."""
        result = func(*args, **(kwargs or {}))
        owned = [each for each in _tensors(args) if self._owner(each)]
        if not owned or all(map(self._owner, _tensors(result))):
            return result
        if func in _COPIES and (known := self._known(owned[0])):
            self._copies.append((result, *known))
        elif not self._report(func, args):
            for layer in filter(None, map(self._owner, owned)):
                self._hidden(layer, str(func.overloadpacket))
        return result

    def _report(self, func: Any, args: tuple[Any, ...]) -> bool:
        """Report the inputs of a product with a whole weight; False if it is none."""
        if func not in _FACTORS:
            return False
        left, right = (args[place] for place in _FACTORS[func])
        # X Wᵀ, or W Xᵀ.
        for weight, inputs, on_the_right in ((right, left, True), (left, right, False)):
            found = [self._known(matrix) for matrix in _matrices(weight)]
            layers = [each[0] for each in found if each and each[1] is on_the_right]
            if len(layers) < len(found):
                continue
            # Experts that are multiplied all at once each have inputs of their own.
            batches = [inputs] if len(layers) == 1 else inputs
            for layer, batch in zip(layers, batches, strict=True):
                if layer.name in self._watched:
                    self._look(layer.name, batch if on_the_right else _rows(batch))
            return True
        return False

    def _known(self, tensor: Tensor) -> tuple[PrunableLayer, bool] | None:
        """The layer whose whole weight a tensor shows, and whether transposed, (b, c)."""
        place = _place(tensor)
        for copy, layer, transposed in self._copies:
            if place == _place(copy):
                return layer, transposed
            if copy.dim() == 2 and place == _place(copy.T):
                return layer, not transposed
        return self._places.get(place)

    def _owner(self, tensor: Tensor) -> PrunableLayer | None:
        """The layer, or one of the experts, whose parameter a tensor is a view or a copy of."""
        found = bisect_right(self._starts, tensor.data_ptr()) - 1
        if found >= 0 and _is_inside(tensor, self._parameters[found].stored):
            return self._parameters[found]
        copies = (layer for copy, layer, _ in self._copies if _is_inside(tensor, copy))
        return next(copies, None)


def _is_inside(tensor: Tensor, whole: Tensor) -> bool:
    """Whether a tensor begins in the memory of another."""
    return 0 <= tensor.data_ptr() - whole.data_ptr() < extent(whole)


def _tensors(value: object) -> Iterator[Tensor]:
    """The tensors in arguments or results, lists of them included."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)


def _matrices(factor: Tensor) -> list[Tensor]:
    """The different matrices of a factor, which may have a batch dimension."""
    if factor.dim() < 3:
        return [factor]
    return [factor[0]] if factor.stride(0) == 0 else list(factor)


def _rows(columns: Tensor) -> Tensor:
    """Inputs, (..., tokens, b), from columns (..., b, tokens) or one column (b)."""
    return columns[None] if columns.dim() == 1 else columns.movedim(-2, -1)


def _place(weight: Tensor) -> _Place:
    """Where in memory a view is, and how it is laid out."""
    steps = zip(weight.shape, weight.stride(), strict=True)
    return weight.data_ptr(), tuple(weight.shape), tuple(0 if n == 1 else step for n, step in steps)
