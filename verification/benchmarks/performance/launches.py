"""Launches, operations and bytes of a layer on a GPU, counted with fake tensors: no GPU is needed.

A launch is an operation that reaches PyTorch's dispatcher, and an operation of ours is as many as
the kernels that it launches. What launches nothing is left out: views, and memory that nobody
fills. The fake tensors also tell who looks at a number: that is an error.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from reference.patterns import Pattern
from thanos_torch import FactorCache, sparsegpt, thanos
from thanos_torch.methods.checks import Checks
from verification.benchmarks.performance.published import published_sparsegpt
from verification.benchmarks.performance.roofline import LAUNCH, PASSES, STEPS, Card, Work

# New memory, and names for old memory that PyTorch does not call views.
NOTHING = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view"}
NOTHING |= {"detach", "lift_fresh", "alias", "_reshape_alias", "as_strided", "promote_types"}
METHODS = {"thanos": thanos, "sparsegpt": sparsegpt}


@dataclass(frozen=True)
class Operation:
    """One operation that reached the dispatcher: its name, the kernels of it, and their work."""

    name: str
    launches: int
    work: Work

    def seconds(self, card: Card) -> float:
        """The time on a card, to which its launches come one after another."""
        return max(self.launches * LAUNCH, card.seconds(self.work))


class Launches(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the operations that launch something.

    kernels  how many kernels an operation of ours launches, by its name; 1 for PyTorch's
    """

    def __init__(self, kernels: Mapping[str, int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Operation] = []
        self._kernels = kernels

    @property
    def counts(self) -> Counter[str]:
        """Launches by the name of the operation."""
        counts: Counter[str] = Counter()
        for each in self.operations:
            counts[each.name] += each.launches
        return counts

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        library, _, name = function._schema.name.rpartition("::")
        # "prim" only asks about tensors.
        if library != "prim" and not function.is_view and name not in NOTHING:
            work = work_of(name, args, result)
            self.operations.append(Operation(name, self._kernels.get(name, 1), work))
        return result


def kernels(dtype: torch.dtype) -> dict[str, int]:
    """Kernels of one call of each operation of ours. Needs Triton."""
    from thanos_torch.methods.kernels import groups, smallest, sweep, systems

    return {
        "smallest": smallest.launches(dtype),
        "smallest_of_groups": groups.launches(),
        "joint_update": systems.launches(),
        "sweep": sweep.launches(),
    }


def counted(
    method: str,
    pattern: Pattern,
    rows: int,
    columns: int,
    dtype: torch.dtype = torch.float32,
    *,
    block_size: int = 128,
    shares_factor: bool = False,
) -> Launches:
    """The operations of a whole layer, from its arguments to its result. Needs Triton.

    method         one of METHODS
    shares_factor  whether a layer before it had the same Gram matrix
    """
    launches, factors = Launches(kernels(dtype)), FactorCache()
    with FakeTensorMode(), SlicesByNarrow():
        W = torch.empty(rows, columns, dtype=dtype, device="cuda")
        G = torch.empty(columns, columns, dtype=dtype, device="cuda")
        options: dict[str, Any] = {"block_size": block_size, "factors": factors}
        if shares_factor:
            METHODS[method](W[:1], G, pattern, checks=Checks(), **options)
        with launches:
            pruned = METHODS[method](W, G, pattern, checks=Checks(), **options)
        assert pruned.weight.device.type == "cuda"
    return launches


def counted_published(pattern: Pattern, rows: int, columns: int, block_size: int) -> Launches:
    """The operations of the published SparseGPT. They do not depend on the device."""
    launches = Launches({})
    W, G = torch.empty(rows, columns, device="meta"), torch.empty(columns, columns, device="meta")
    with SlicesByNarrow(), launches:
        published_sparsegpt(W, G, pattern, block_size)
    return launches


# Work


def work_of(name: str, args: Any, result: Any) -> Work:
    """The work of one operation. Bytes are those of its tensors, each read or written once."""
    if name in OWN_WORK:
        return OWN_WORK[name](*args)
    tensors = [*_tensors(args), *_tensors(result)]
    moved = sum(each.numel() * each.element_size() for each in tensors)
    shapes = [each.shape for each in tensors]
    count = OPERATIONS[name](*shapes) if name in OPERATIONS else 0.0
    return _work(count, tensors[0].dtype if tensors else torch.float32, moved)


def _tensors(values: Any) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    some = values if isinstance(values, tuple | list) else ()
    return [each for value in some for each in _tensors(value)]


def _work(operations: float, dtype: torch.dtype, moved: float) -> Work:
    if dtype == torch.float64:
        return Work(float64=operations, bytes=moved)
    return Work(float32=operations, bytes=moved)


def _product(left: Any, right: Any, *_: Any) -> float:
    return 2 * float(left.numel()) * int(right[-1])


# Operations of products and factorisations, by the shapes of their tensors. In all others the bytes
# take longer than the operations.
OPERATIONS: dict[str, Callable[..., float]] = {
    "mm": _product,
    "bmm": _product,
    "addmm": lambda _, left, right, *__: _product(left, right),
    "addmm_": lambda _, left, right, *__: _product(left, right),
    "linalg_cholesky_ex": lambda H, *_: H.numel() * H[-1] / 3,
    "cholesky_inverse": lambda H, *_: 2 * H.numel() * H[-1] / 3,
    # Against the identity: the library does not know that half of the result is 0.
    "linalg_solve_triangular": lambda T, right, *_: T.numel() * right[-1],
}


def _smallest(weight: Tensor, *others: Any) -> Work:
    from thanos_torch.methods.kernels.smallest import DIGITS

    *_, picks = others
    passes = len(DIGITS[weight.dtype]) * weight.numel() + picks.numel()
    return Work(bytes=passes * weight.element_size() + picks.numel())


def _smallest_of_groups(weight: Tensor, *_: Any) -> Work:
    return Work(bytes=weight.numel() * (weight.element_size() + 1))


def _joint_update(weight: Tensor, *_: Any) -> Work:
    """Two products a step, and one before the first step of a pass; one of float64 behind a pass.

    Behind the last pass come E_k, in float64, and the new weights. Scratch memory stays in caches.
    """
    product = 2.0 * weight.numel() * weight.shape[1]
    moved = weight.numel() * (3 * weight.element_size() + 1)
    own = _work((2 * STEPS + PASSES + 1) * product, weight.dtype, moved)
    return own + Work(float64=(PASSES + 1) * product)


def _sweep(weight: Tensor, *_: Any) -> Work:
    moved = weight.numel() * (3 * weight.element_size() + 1)
    return _work(weight.numel() * weight.shape[1], weight.dtype, moved)


OWN_WORK: dict[str, Callable[..., Work]] = {
    "smallest": _smallest,
    "smallest_of_groups": _smallest_of_groups,
    "joint_update": _joint_update,
    "sweep": _sweep,
}


# Fake tensors without a driver
def converted(tensor: Tensor, dtype: torch.dtype, copy: bool = False) -> Tensor:
    """The tensor in another type; itself where that is its own."""
    if dtype == tensor.dtype and not copy:
        return tensor
    copied: Tensor = torch.ops.aten._to_copy(tensor, dtype=dtype)
    return copied


class SlicesByNarrow(TorchFunctionMode):
    """Indexing by slices, None and masks, and ~, in other words.

    PyTorch without CUDA refuses these of fake tensors, for which it wants a driver.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is Tensor.__getitem__:
            return narrowed(*args)
        if function is Tensor.__setitem__:
            return assigned(*args)
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


def assigned(tensor: Tensor, index: Any, value: Any) -> Tensor:
    """tensor[index] = value; a mask may be the last part of the index, for a number as value."""
    *before, last = index if isinstance(index, tuple) else (index,)
    if isinstance(last, Tensor):
        assert all(part == slice(None) for part in before)
        return tensor.masked_fill_(last, value)
    part = narrowed(tensor, index)
    if not isinstance(value, Tensor):
        return part.fill_(value)
    # As behind `tensor[index] -= other`, where PyTorch copies nothing either.
    if part._base is value._base is not None and _place(part) == _place(value):
        return part
    copied: Tensor = torch.ops.aten.copy_(part, value)
    return copied


def _place(view: Tensor) -> tuple[Any, ...]:
    return view.storage_offset(), view.shape, view.stride()
