"""Fused experts of a mixture: the inputs of weights that are slices of one parameter."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode, resolve_name

from thanos_torch.network.layers import PrunableLayer

_PRODUCTS = {torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm}
_Place = tuple[int, int, tuple[int, ...], tuple[int, ...]]


class ExpertProducts(TorchFunctionMode):
    """Watches the inputs of the layers of fused experts.

    These layers are no modules, so no hook can be registered. But code that computes with one
    expert uses a view of the fused parameter, and the view's offset tells which expert it is. An
    operation that hides the weights from us, such as a copy, raises ValueError: a calibration that
    misses some inputs would be wrong without a sign of it.
    """

    def __init__(
        self, layers: Iterable[PrunableLayer], look: Callable[[str, Tensor], None]
    ) -> None:
        """`look` is called with a layer's name and its inputs, (tokens, b)."""
        super().__init__()
        self._look = look
        self._fused: dict[int, str] = {}
        # All experts of the parameters; None for those that are not watched.
        self._names: dict[_Place, str | None] = {}
        for layer in layers:
            if id(layer.stored) not in self._fused:
                self._fused[id(layer.stored)] = layer.parameter
                for expert in range(len(layer.stored)):
                    self._names[_place(replace(layer, expert=expert).matrix)] = None
            self._names[_place(layer.matrix)] = layer.name

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a torch function; if it multiplies inputs by an expert's weight, report them."""
        kwargs = kwargs or {}
        owner = next(filter(None, map(self._owner, _tensors([args, [*kwargs.values()]]))), None)
        if owner is None:
            return func(*args, **kwargs)
        weight = _multiplied(func, args)
        if weight is not None and (place := _place(weight)) in self._names:
            if name := self._names[place]:
                self._look(name, args[0])
            return func(*args, **kwargs)
        result = func(*args, **kwargs)
        if not all(self._owner(tensor) for tensor in _tensors(result)):
            raise ValueError(
                f"{owner}: what each expert reads cannot be told, as their weights "
                f"go into {resolve_name(func)}: only products of inputs and one expert are known"
            )
        return result

    def _owner(self, tensor: Tensor) -> str | None:
        """The name of the fused parameter that a tensor is, or is a view of."""
        return self._fused.get(id(tensor)) or self._fused.get(id(tensor._base))


def _tensors(value: object) -> Iterator[Tensor]:
    """The tensors in arguments or results, lists of them included."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)


def _multiplied(func: Callable[..., Any], args: tuple[Any, ...]) -> Tensor | None:
    """The weight, as a view (c, b), if `func` multiplies inputs (..., b) by a weight; else None."""
    if len(args) < 2 or not isinstance(args[1], Tensor):
        return None
    weight = args[1]
    if func is F.linear:
        return weight
    return weight.T if func in _PRODUCTS and weight.dim() == 2 else None


def _place(weight: Tensor) -> _Place:
    """Which part of which parameter a view shows."""
    return id(weight._base), int(weight.storage_offset()), tuple(weight.shape), weight.stride()


@contextmanager
def looping_experts(layers: Iterable[PrunableLayer]) -> Iterator[None]:
    """Let Transformers compute expert by expert, because its faster ways mix the experts' inputs.

    The outputs are the same up to rounding. Modules of other libraries are left as they are.
    """
    configs: dict[int, Any] = {}
    for layer in layers:
        config = getattr(layer.module, "config", None)
        if hasattr(config, "_experts_implementation"):
            configs[id(config)] = config
    before = [(config, config._experts_implementation) for config in configs.values()]
    try:
        for config, _ in before:
            config._experts_implementation = "eager"
        yield
    finally:
        for config, implementation in before:
            config._experts_implementation = implementation
