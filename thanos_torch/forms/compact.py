"""The storage form of structured pruning, kept columns as a dense matrix, and its linear layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thanos_torch.forms.form import outlier_rows, refuse_indices, refuse_shape, refuse_unfit

_TENSORS = ("kept", "columns", "outliers", "beside")


@dataclass(frozen=True)
class Compact:
    """A pruned weight, (c, b), of which s columns were removed from all rows but o outlier rows.

    Outlier rows are split. Their kept columns are stored with those of the other rows, so that one
    product serves all rows in their order; a small product adds their other columns.

    kept      int32, (b−s,), ascending: the indices of the columns that all rows have
    columns   (c, b−s): the weights in these columns
    outliers  int32, (o,), ascending: the indices of the outlier rows
    beside    (o, s): the weights of the outlier rows in the other columns
    """

    shape: tuple[int, int]
    kept: Tensor
    columns: Tensor
    outliers: Tensor
    beside: Tensor

    @classmethod
    def pack(cls, weight: Tensor, mask: Tensor) -> Self:
        """Pack a weight by its mask, both (c, b). Raises ValueError unless it removes columns.

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
        """Make a form from its `tensors`. Raises ValueError if their sizes do not fit."""
        form = cls(shape, *(tensors[name] for name in _TENSORS))
        rows, columns = shape
        refuse_indices("kept", form.kept, columns)
        refuse_indices("outliers", form.outliers, rows)
        width, count = len(form.kept), len(form.outliers)
        refuse_shape("columns", form.columns, (rows, width))
        refuse_shape("beside", form.beside, (count, columns - width))
        return form

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The stored tensors by name."""
        return {name: getattr(self, name) for name in _TENSORS}

    @property
    def removed(self) -> Tensor:
        """The indices of the removed columns, int32, (s,), ascending."""
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


class CompactLinear(nn.Module):
    """Replaces an nn.Linear whose weight lost whole columns: y = W x + bias.

    It gathers the kept columns of the inputs and makes one product for all rows. If there are
    outlier rows, a second gather and a small product are added to their outputs.
    """

    def __init__(self, form: Compact, bias: Tensor | None = None) -> None:
        """`bias` is (c,) or None. No tensor is copied."""
        super().__init__()
        self.out_features, self.in_features = form.shape
        self.columns = nn.Parameter(form.columns, requires_grad=False)
        self.beside = nn.Parameter(form.beside, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self.register_buffer("kept", form.kept)
        self.register_buffer("outliers", form.outliers)
        removed = form.removed if len(form.outliers) else form.kept.new_empty(0)
        self.register_buffer("removed", removed, persistent=False)
        # Asking the tensor on every call takes a microsecond.
        self._has_outliers = len(form.outliers) > 0
        self.kept: Tensor
        self.outliers: Tensor
        self.removed: Tensor

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (..., b), outputs (..., c)."""
        # As a matrix, because index_select is ten times faster in two dimensions than in three.
        tokens = inputs.reshape(-1, self.in_features)
        outputs = F.linear(tokens.index_select(1, self.kept), self.columns, self.bias)
        if self._has_outliers:
            beside = F.linear(tokens.index_select(1, self.removed), self.beside)
            # scatter_add_ needs no atomic operations, and so uses all threads, because rows differ.
            where = self.outliers.long().expand(len(tokens), -1)
            outputs = outputs.scatter_add_(1, where, beside)
        return outputs.view(*inputs.shape[:-1], self.out_features)

    def form(self) -> Compact:
        """The weight in its storage form."""
        shape = (self.out_features, self.in_features)
        return Compact(shape, self.kept, self.columns.detach(), self.outliers, self.beside.detach())

    def extra_repr(self) -> str:
        """For `print(model)`."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"kept={len(self.kept)}, outliers={len(self.outliers)}, bias={self.bias is not None}"
        )


def compact_linear(linear: nn.Linear, mask: Tensor) -> CompactLinear:
    """The compact counterpart of a pruned layer; `mask` (c, b), True where a weight was removed.

    Raises ValueError unless whole columns were removed, except from outlier rows.
    """
    with torch.no_grad():
        return CompactLinear(Compact.pack(linear.weight.detach(), mask), linear.bias)
