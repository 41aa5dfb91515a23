"""A pretended CUDA device of fake tensors: it tells who looks at a number, and who launches.

Launches are counted as operations that reach PyTorch's dispatcher, and a kernel of ours as the
kernels that it launches. What launches nothing is left out: views, and memory that nobody fills.
"""

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# New memory, and names for old memory that PyTorch does not call views.
NOTHING = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view"}
NOTHING |= {"detach", "lift_fresh", "alias", "_reshape_alias", "as_strided", "promote_types"}


class Launches(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts launches by the name of the operation.

    kernels  how many kernels an operation of ours launches, by its name; 1 for PyTorch's
    """

    def __init__(self, kernels: dict[str, int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()
        self._kernels = kernels

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        library, _, name = function._schema.name.rpartition("::")
        # "prim" only asks about tensors.
        if library != "prim" and not function.is_view and name not in NOTHING:
            self.counts[name] += self._kernels.get(name, 1)
        return function(*args, **(kwargs or {}))


def converted(tensor: Tensor, dtype: torch.dtype, copy: bool = False) -> Tensor:
    """The tensor in another type; itself where that is its own."""
    if dtype == tensor.dtype and not copy:
        return tensor
    copied: Tensor = torch.ops.aten._to_copy(tensor, dtype=dtype)
    return copied


class SlicesByNarrow(TorchFunctionMode):
    """Indexing by slices and None, and ~, in other words.

    PyTorch without CUDA refuses these of fake tensors, for which it wants a driver.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is Tensor.__getitem__:
            return narrowed(*args)
        if function is Tensor.__setitem__:
            target, index, value = args
            part = narrowed(target, index)
            if not isinstance(value, Tensor):
                return part.fill_(value)
            return torch.ops.aten.copy_(part, value)
        if function in OTHER_WORDS:
            return OTHER_WORDS[function](*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


# The same operations without the part of Python's binding that wants a driver.
OTHER_WORDS: dict[Any, Any] = {
    Tensor.__invert__: torch.logical_not,
    Tensor.contiguous: lambda it: it.clone(memory_format=torch.contiguous_format),
    Tensor.copy_: torch.ops.aten.copy_,
    Tensor.double: lambda it: converted(it, torch.float64),
    Tensor.to: lambda it, dtype, copy=False, **_: converted(it, dtype, copy),
}


def narrowed(tensor: Tensor, index: Any) -> Tensor:
    """tensor[index] for slices and None."""
    dim = 0
    for part in index if isinstance(index, tuple) else (index,):
        if part is None:
            tensor = tensor.unsqueeze(dim)
        elif isinstance(part, slice):
            start, stop, step = part.indices(tensor.shape[dim])
            assert step == 1
            tensor = tensor.narrow(dim, start, max(0, stop - start))
        else:
            tensor = tensor.select(dim, part)
            continue
        dim += 1
    return tensor
