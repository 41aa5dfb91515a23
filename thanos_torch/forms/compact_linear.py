"""A linear layer that is smaller and faster than nn.Linear once columns are gone."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thanos_torch.forms.compact import Compact


class CompactLinear(nn.Module):
    """Replaces nn.Linear whose weight lost whole columns: y = W x + bias.

    One gather of the inputs' kept columns and one product for all rows; if there are outlier rows,
    a second gather and a small product, added to their outputs.
    """

    def __init__(self, form: Compact, bias: Tensor | None = None) -> None:
        """`bias` is (c,) or None; nothing is copied."""
        super().__init__()
        self.out_features, self.in_features = form.shape
        self.columns = nn.Parameter(form.columns, requires_grad=False)
        self.beside = nn.Parameter(form.beside, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self.register_buffer("kept", form.kept)
        self.register_buffer("outliers", form.outliers)
        removed = form.removed if len(form.outliers) else form.kept.new_empty(0)
        self.register_buffer("removed", removed, persistent=False)
        self._has_outliers = len(form.outliers) > 0  # known: to ask a tensor takes a microsecond
        self.kept: Tensor
        self.outliers: Tensor
        self.removed: Tensor

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (..., b), outputs (..., c)."""
        # As a matrix: index_select has a fast way for two dimensions, ten times that for three.
        tokens = inputs.reshape(-1, self.in_features)
        outputs = F.linear(tokens.index_select(1, self.kept), self.columns, self.bias)
        if self._has_outliers:
            beside = F.linear(tokens.index_select(1, self.removed), self.beside)
            # scatter_add_ uses all threads and no atomic operation here: rows are distinct.
            where = self.outliers.long().expand(len(tokens), -1)
            outputs = outputs.scatter_add_(1, where, beside)
        return outputs.view(*inputs.shape[:-1], self.out_features)

    def form(self) -> Compact:
        """Its weight, as it is stored."""
        shape = (self.out_features, self.in_features)
        return Compact(shape, self.kept, self.columns.detach(), self.outliers, self.beside.detach())

    def extra_repr(self) -> str:
        """For `print(model)`."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"kept={len(self.kept)}, outliers={len(self.outliers)}, bias={self.bias is not None}"
        )


def compact_linear(linear: nn.Linear, mask: Tensor) -> CompactLinear:
    """The compact layer of a pruned one; `mask` (c, b), True where a weight was removed.

    Raises ValueError if it is not whole columns that were removed, outlier rows excepted.
    """
    with torch.no_grad():
        return CompactLinear(Compact.pack(linear.weight.detach(), mask), linear.bias)
