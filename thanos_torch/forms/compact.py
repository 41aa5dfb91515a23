"""Whole columns removed: the kept ones as one dense matrix, outlier rows with what they kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from thanos_torch.forms.form import outlier_rows, refuse_indices, refuse_unfit


@dataclass(frozen=True)
class Compact:
    """s columns were removed from all rows but o outlier rows.

    Outlier rows are split: what they have in the kept columns lies with the other rows, so that one
    product serves all rows in their order, and a small one adds what outlier rows have beside it.

    kept      int32, (b−s,), ascending: the columns that all rows have
    columns   (c, b−s): these columns
    outliers  int32, (o,), ascending: the rows that have the other columns too
    beside    (o, s): those columns of these rows
    """

    shape: tuple[int, int]
    kept: Tensor
    columns: Tensor
    outliers: Tensor
    beside: Tensor

    @classmethod
    def pack(cls, weight: Tensor, mask: Tensor) -> Self:
        """Weight and mask (c, b). Raises ValueError unless whole columns were removed.

        A row without any removed weight is an outlier row.
        """
        refuse_unfit(weight, mask)
        rows, columns = weight.shape
        removed, outliers = mask.any(dim=0), outlier_rows(mask)
        expected = removed.expand(rows, -1).clone()
        expected[outliers] = False
        if not torch.equal(mask, expected):
            row = int((mask != expected).any(dim=1).nonzero()[0])
            raise ValueError(f"mask must remove whole columns, but row {row} differs from others")
        kept = (~removed).nonzero().flatten().int()
        beside = weight[outliers][:, removed]
        return cls((rows, columns), kept, weight[:, ~removed], outliers, beside)

    @classmethod
    def of(cls, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Self:
        """From its tensors. Raises ValueError where their sizes do not fit."""
        form = cls(shape, *(tensors[name] for name in ("kept", "columns", "outliers", "beside")))
        rows, columns = shape
        refuse_indices("kept", form.kept, columns)
        refuse_indices("outliers", form.outliers, rows)
        width, count = len(form.kept), len(form.outliers)
        for name, tensor, expected in (
            ("columns", form.columns, (rows, width)),
            ("beside", form.beside, (count, columns - width)),
        ):
            if tensor.shape != expected:
                raise ValueError(
                    f"{name} must have the shape {expected}, got {tuple(tensor.shape)}"
                )
        return form

    @property
    def tensors(self) -> dict[str, Tensor]:
        """By name, as `of` wants them."""
        return {
            "kept": self.kept,
            "columns": self.columns,
            "outliers": self.outliers,
            "beside": self.beside,
        }

    @property
    def removed(self) -> Tensor:
        """The other columns, int32, (s,), ascending."""
        left = torch.ones(self.shape[1], dtype=torch.bool, device=self.kept.device)
        left[self.kept] = False
        return left.nonzero().flatten().int()

    def mask(self) -> Tensor:
        """(c, b) bool, True where a weight was removed."""
        mask = torch.zeros(self.shape, dtype=torch.bool, device=self.kept.device)
        mask[:, self.removed] = True
        mask[self.outliers] = False
        return mask

    def weight(self) -> Tensor:
        """(c, b), every bit as it was."""
        weight = self.columns.new_zeros(self.shape)
        weight[:, self.kept] = self.columns
        weight[self.outliers[:, None], self.removed] = self.beside
        return weight
