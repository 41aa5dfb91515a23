"""Where the numbers of tensors lie in memory, and which tensors have some in common."""

import torch
from torch import Tensor


def extent(tensor: Tensor) -> int:
    """Bytes between the first and behind the last element."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return (1 + sum((size - 1) * step for size, step in steps)) * tensor.element_size()


def overlap(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one storage show some of the same numbers."""
    start = min(one.data_ptr(), other.data_ptr())
    end = max(each.data_ptr() + extent(each) for each in (one, other))
    if end - start >= extent(one) + extent(other):
        return False
    if one.dtype != other.dtype:
        return True
    # Rows of one may lie between rows of the other: look at every element.
    size = one.element_size()
    shown = torch.zeros((end - start) // size, dtype=torch.bool)

    def own(tensor: Tensor) -> Tensor:
        first = (tensor.data_ptr() - start) // size
        return shown.as_strided(tensor.shape, tensor.stride(), first)

    own(one).fill_(True)
    return bool(own(other).any())


def repeats(tensor: Tensor) -> bool:
    """Whether a tensor shows one number in several places, as `expand` makes it."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return any(size > 1 and step == 0 for size, step in steps)
