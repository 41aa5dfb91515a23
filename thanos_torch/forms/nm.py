"""n:m packed: the kept weights of every group, and one short code for their places."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from thanos_torch.forms.bits import pack_codes, unpack_codes
from thanos_torch.forms.combinations import MOST, code_bits, rank, unrank
from thanos_torch.forms.form import outlier_rows, refuse_indices, refuse_unfit


@dataclass(frozen=True)
class PackedNM:
    """n of every m weights of a row were removed, outlier rows excepted; n counts the zeros.

    values    the kept weights of the ordinary rows, (c−o, b·(m−n)/m)
    codes     uint8: for each group, row by row, ⌈log2 C(m, n)⌉ bits, of `combinations.rank`
    outliers  int32, (o,): which rows are whole
    whole     those rows, (o, b)
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
        """Weight and mask (c, b). Raises ValueError if the mask is not n:m.

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
        """From its tensors. Raises ValueError where their sizes do not fit."""
        rows, columns = shape
        _refuse_unpackable(n, m, columns)
        form = cls(
            shape, n, m, *(tensors[each] for each in ("values", "codes", "outliers", "whole"))
        )
        refuse_indices("outliers", form.outliers, rows)
        count = len(form.outliers)
        for name, tensor, expected in (
            ("values", form.values, (rows - count, columns // m * (m - n))),
            ("whole", form.whole, (count, columns)),
        ):
            if tensor.shape != expected:
                raise ValueError(
                    f"{name} must have the shape {expected}, got {tuple(tensor.shape)}"
                )
        form._taken()
        return form

    @property
    def tensors(self) -> dict[str, Tensor]:
        """By name, as `of` wants them."""
        return {
            "values": self.values,
            "codes": self.codes,
            "outliers": self.outliers,
            "whole": self.whole,
        }

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
    """Those of `count` rows that are not among `rows`, int64."""
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
