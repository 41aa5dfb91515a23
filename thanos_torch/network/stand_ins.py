"""Random numbers in the place of weights that are not in memory, for models of any size."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

_ATEN = torch.ops.aten
STORED = 2**16  # weights up to this size have numbers of their own
_SCALE = 0.1
CHANGES = "cannot be pruned, because its forward pass changes its weights"


@contextmanager
def stand_ins(model: nn.Module) -> Iterator[None]:
    """Give weights on the meta device random numbers, until the context is left.

    A large weight shows the same few numbers again and again, each row shifted by two, so that no
    two rows are equal. Its products are replaced by products of rank one: what a pass over a model
    of any size shows of its structure costs little time and memory.
    """
    generator = torch.Generator().manual_seed(0)
    made: dict[int, nn.Parameter] = {}
    taken: list[tuple[nn.Module, str, nn.Parameter]] = []
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None and weight.is_meta:
                if id(weight) not in made:
                    numbers = _numbers(weight, generator)
                    made[id(weight)] = nn.Parameter(numbers, requires_grad=False)
                taken.append((module, name, weight))
    if not taken:
        yield
        return
    buffers = [
        (module, name, buffer)
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and buffer.is_meta
    ]
    try:
        for module, name, weight in taken:
            module._parameters[name] = made[id(weight)]
        for module, name, buffer in buffers:
            make = torch.ones if buffer.is_floating_point() else torch.zeros
            module._buffers[name] = make(buffer.shape, dtype=buffer.dtype)
        with _CheapProducts():
            yield
    finally:
        for module, name, weight in taken:
            module._parameters[name] = weight
        for module, name, buffer in buffers:
            module._buffers[name] = buffer


def _numbers(weight: Tensor, generator: torch.Generator) -> Tensor:
    """Random numbers of a weight's shape and dtype; around 1 for vectors, such as norms."""
    if not weight.is_floating_point():
        return torch.zeros((), dtype=weight.dtype).expand(weight.shape)
    shape = weight.shape
    steps = list(range(len(shape), 0, -1))
    count = 1 + sum((size - 1) * step for size, step in zip(shape, steps, strict=True))
    if weight.numel() <= STORED:
        numbers = torch.randn(shape, generator=generator) * _SCALE
    else:
        numbers = torch.randn(count, generator=generator) * _SCALE
    numbers = (numbers + (1.0 if len(shape) == 1 else 0.0)).to(weight.dtype)
    return numbers if weight.numel() <= STORED else numbers.as_strided(shape, steps)


class _CheapProducts(TorchDispatchMode):
    """Replaces products with large stand-ins, which would have to be written out to multiply."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation, products with a large stand-in by its first row and column."""
        if func in (_ATEN.mm.default, _ATEN.bmm.default) and any(map(_is_large, args)):
            return _rank_one(*args)
        if func is _ATEN.addmm.default and any(map(_is_large, args[1:])) and not kwargs:
            return args[0] + _rank_one(*args[1:])
        if func._schema.is_mutable and args and isinstance(args[0], Tensor) and _is_large(args[0]):
            raise ValueError(f"the model {CHANGES}")
        return func(*args, **(kwargs or {}))


def _is_large(tensor: Tensor) -> bool:
    """Whether elements share memory, as in a large stand-in."""
    return tensor.untyped_storage().nbytes() < tensor.nbytes


def _rank_one(left: Tensor, right: Tensor) -> Tensor:
    """In the shape of left @ right; depends on all numbers of the factor that is no stand-in."""
    if _is_large(right):
        return (left @ right[..., :1]) * right[..., :1, :]
    return left[..., :1] * (left[..., :1, :] @ right)
