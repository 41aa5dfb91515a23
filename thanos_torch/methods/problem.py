"""The Gram matrix of the inputs, added up batch by batch, and the objective. Spec section 1."""

from collections.abc import Callable

import torch
from torch import Tensor

from reference.patterns import Unstructured, column_blocks
from thanos_torch.methods.inputs import check_matrix, full_precision
from thanos_torch.methods.scaled import prepare


@torch.no_grad()
@full_precision()
def objective(
    weight: Tensor, gram: Tensor, pruned_weight: Tensor, *, damping: float = 0.01
) -> float:
    """What pruning costs: f(Ŵ) = tr(D H Dᵀ), D = Ŵ − W, in float64. Spec (1).

    weight, pruned_weight (c, b); gram (b, b). Raises ValueError for what spec section 2 refuses.
    """
    check_matrix("pruned_weight", pruned_weight)
    layer = prepare(weight, gram, Unstructured(0), max(1, weight.shape[-1]), damping)
    if pruned_weight.shape != weight.shape:
        raise ValueError(
            f"pruned_weight must have the shape {tuple(weight.shape)}, "
            f"got {tuple(pruned_weight.shape)}"
        )
    D = pruned_weight.double() - weight.double()
    loss = ((D @ layer.hessian(torch.float64)) * D).sum()
    return float(loss * 2.0**layer.gram_exponent)


PANEL = 256  # columns: narrow enough to leave out nearly half, wide enough for fast products


class Gram:
    """G = X Xᵀ, added up batch by batch.

    columns  b, the number of inputs of the layer
    dtype    arithmetic of the sum; batches are converted before they are squared, because
             float16 overflows from 256 on
    """

    def __init__(
        self,
        columns: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if columns < 1:
            raise ValueError(f"columns must be at least 1, got {columns}")
        self._matrix = torch.zeros(columns, columns, device=device, dtype=dtype)
        self.tokens = 0

    @torch.no_grad()
    def add(self, batch: Tensor) -> None:
        """Add a batch of inputs, (..., columns): one token a row, so X is its transpose."""
        columns = len(self._matrix)
        if batch.dim() == 0 or batch.shape[-1] != columns:
            raise ValueError(f"batch must have {columns} columns, got shape {tuple(batch.shape)}")
        rows = batch.reshape(-1, columns).to(self._matrix.dtype)
        # G is symmetric: panels that end at its diagonal hold all of it, for half of the products.
        for j1, j2 in column_blocks(columns, PANEL):
            self._matrix[j1:j2, j1:].addmm_(rows[:, j1:j2].T, rows[:, j1:])
        self.tokens += len(rows)

    def pool(self, add_up: Callable[[Tensor], None], tokens: int) -> None:
        """Take the sum over several processes, with the tokens of all of them.

        `add_up` replaces a tensor by its sum over them.
        """
        add_up(self._matrix)
        self.tokens = tokens

    def matrix(self) -> Tensor:
        """G, (columns, columns). Raises ValueError if an input was NaN or infinite."""
        # Looked at here and not in `add`, where it would make a GPU wait for every batch. The
        # diagonal tells: a column's square sum is finite only if all its inputs are.
        finite = self._matrix.diagonal().isfinite()
        if not finite.all():
            column = int((~finite).nonzero()[0])
            raise ValueError(f"batch must be finite, got NaN or infinity in column {column}")
        matrix = self._matrix.clone()
        for j1, j2 in column_blocks(len(matrix), PANEL):
            matrix[j2:, j1:j2] = matrix[j1:j2, j2:].T
        return matrix
