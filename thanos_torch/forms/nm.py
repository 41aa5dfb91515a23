"""The storage form of n:m patterns, and 2:4 layers on the sparse units of a GPU."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import comb
from typing import Self

import torch
from torch import Tensor, nn

from thanos_torch.forms.form import (
    outlier_rows,
    pack_codes,
    refuse_indices,
    refuse_shape,
    refuse_unfit,
    unpack_codes,
)

MOST = 64  # the largest m: C(64, 32), the number of its codes, still fits into int64
HALVES = (torch.float16, torch.bfloat16)  # the dtypes that the GPU path accepts here
_TENSORS = ("values", "codes", "outliers", "whole")


def code_bits(m: int, k: int) -> int:
    """Bits of a code for k of m places: ⌈log2 C(m, k)⌉."""
    return (comb(m, k) - 1).bit_length()


def rank(taken: Tensor) -> Tensor:
    """Number the choices of k of m places, (groups, m) bool, from 0 on: int64, (groups,)."""
    groups, m = taken.shape
    numbers, seen = (torch.zeros(groups, dtype=torch.int64, device=taken.device) for _ in range(2))
    for place in range(m):
        here = taken[:, place]
        seen += here
        numbers += torch.where(here, _row(place, m, taken.device)[seen], 0)
    return numbers


def unrank(numbers: Tensor, m: int, k: int) -> Tensor:
    """The inverse of `rank`: (groups, m) bool, each row with k places taken."""
    taken = torch.empty(len(numbers), m, dtype=torch.bool, device=numbers.device)
    left = torch.full_like(numbers, k)
    for place in reversed(range(m)):
        share = _row(place, m, numbers.device)[left]
        here = numbers >= share  # with none left the number is 0, and C(place, 0) = 1
        numbers = torch.where(here, numbers - share, numbers)
        left = left - here.long()
        taken[:, place] = here
    return taken


def _row(place: int, m: int, device: torch.device) -> Tensor:
    """C(place, 0), ..., C(place, m)."""
    return torch.tensor([comb(place, k) for k in range(m + 1)], device=device)


@dataclass(frozen=True)
class PackedNM:
    """A pruned weight, (c, b), with n of every m weights of a row removed except in outlier rows.

    values    the kept weights of the ordinary rows, (c−o, b·(m−n)/m)
    codes     uint8: for each group, row by row, the ⌈log2 C(m, n)⌉ bits of its number by `rank`
    outliers  int32, (o,), ascending: the indices of the outlier rows
    whole     the outlier rows, (o, b)
    """

    shape: tuple[int, int]
    n: int
    m: int
    values: Tensor
    codes: Tensor
    outliers: Tensor
    whole: Tensor

    @classmethod
    def pack(cls, weight: Tensor, mask: Tensor, n: int, m: int) -> Self:
        """Pack a weight by its mask, both (c, b). Raises ValueError if the mask is not n:m.

        A row without any removed weight is an outlier row.
        """
        refuse_unfit(weight, mask)
        rows, columns = weight.shape
        _refuse_unpackable(n, m, columns)
        outliers = outlier_rows(mask)
        ordinary = _others(outliers, rows)
        taken = ~mask[ordinary].view(-1, m)  # (groups, m)
        wrong = (taken.sum(dim=1) != m - n).view(len(ordinary), -1).any(dim=1)
        if bool(wrong.any()):
            row = int(ordinary[wrong][0])
            raise ValueError(f"mask must remove {n} of every {m} weights, but row {row} differs")
        values = weight[ordinary].view(-1, m)[taken].view(len(ordinary), -1)
        codes = pack_codes(rank(taken), code_bits(m, m - n))
        return cls((rows, columns), n, m, values, codes, outliers, weight[outliers])

    @classmethod
    def of(cls, shape: tuple[int, int], tensors: Mapping[str, Tensor], n: int, m: int) -> Self:
        """Make a form from its `tensors`. Raises ValueError if their sizes do not fit."""
        rows, columns = shape
        _refuse_unpackable(n, m, columns)
        form = cls(shape, n, m, *(tensors[name] for name in _TENSORS))
        refuse_indices("outliers", form.outliers, rows)
        count = len(form.outliers)
        refuse_shape("values", form.values, (rows - count, columns // m * (m - n)))
        refuse_shape("whole", form.whole, (count, columns))
        form._taken()  # refuses codes of another length
        return form

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The stored tensors by name."""
        return {name: getattr(self, name) for name in _TENSORS}

    def mask(self) -> Tensor:
        """(c, b) bool, True where a weight was removed."""
        mask = torch.zeros(self.shape, dtype=torch.bool, device=self.values.device)
        mask[self._ordinary()] = ~self._taken().view(-1, self.shape[1])
        return mask

    def weight(self) -> Tensor:
        """(c, b), every bit as it was."""
        ordinary = self.values.new_zeros(len(self.values), self.shape[1])
        ordinary.view(-1, self.m)[self._taken()] = self.values.reshape(-1)
        weight = self.values.new_empty(self.shape)
        weight[self._ordinary()] = ordinary
        weight[self.outliers] = self.whole
        return weight

    def _ordinary(self) -> Tensor:
        return _others(self.outliers, self.shape[0])

    def _taken(self) -> Tensor:
        """(groups, m) bool, True where a weight was kept."""
        groups = (self.shape[0] - len(self.outliers)) * (self.shape[1] // self.m)
        width = code_bits(self.m, self.m - self.n)
        return unrank(unpack_codes(self.codes, groups, width), self.m, self.m - self.n)


def _others(rows: Tensor, count: int) -> Tensor:
    """The indices below `count` that are not in `rows`, int64."""
    others = torch.ones(count, dtype=torch.bool, device=rows.device)
    others[rows] = False
    return others.nonzero().flatten()


def _refuse_unpackable(n: int, m: int, columns: int) -> None:
    if not 1 <= m <= MOST:
        raise ValueError(f"m must lie in [1, {MOST}] for the n:m form, got {m}")
    if not 1 <= n <= m:
        raise ValueError(f"n must lie in [1, m] = [1, {m}] for the n:m form, got {n}")
    if columns % m:
        raise ValueError(f"m = {m} does not divide the {columns} columns of the weight")


def semi_structured_linear(linear: nn.Linear) -> nn.Linear:
    """The same layer through `torch.sparse`, with which a GPU does half of the work of the product.

    The weight must be 2:4 without outlier rows. Raises ValueError, with the reason, for any other
    weight, off CUDA, and for sizes or GPUs that PyTorch's kernels do not support.
    """
    weight = linear.weight.detach()
    if weight.dtype not in HALVES:
        raise ValueError(
            "weight must be float16 or bfloat16 for torch.sparse semi-structured, "
            f"got {weight.dtype}"
        )
    if weight.shape[1] % 4 or bool(((weight.view(-1, 4) == 0).sum(dim=1) < 2).any()):
        raise ValueError("weight must have two zeros in every four weights of a row (2:4)")
    if not weight.is_cuda:
        raise ValueError(
            f"weight must be on a CUDA device for torch.sparse semi-structured, got {weight.device}"
        )
    from torch.sparse import to_sparse_semi_structured

    try:
        sparse = to_sparse_semi_structured(weight)
    except (RuntimeError, ValueError) as error:  # sizes and GPUs that the kernels do not support
        raise ValueError(
            f"weight of shape {tuple(weight.shape)} is refused by torch.sparse: {error}"
        ) from error
    faster = nn.Linear(linear.in_features, linear.out_features, bias=False, device="meta")
    faster.weight = nn.Parameter(sparse, requires_grad=False)
    faster.bias = linear.bias
    return faster
