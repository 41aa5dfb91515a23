"""The problem of one layer: objective, Gram matrix, and the common units of all methods. Spec 1."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from reference.patterns import Pattern, column_blocks
from thanos_torch.methods.checks import Checks
from thanos_torch.methods.devices import on_host
from thanos_torch.methods.inputs import (
    check_damping,
    check_form,
    check_gram,
    check_gram_form,
    check_matrix,
    check_same_shape,
    full_precision,
    mirrored_tiles,
)
from thanos_torch.methods.result import Diagnostics, Pruned
from thanos_torch.methods.units import Units, times, times_in_place

PANEL = 256  # columns: narrow enough to leave out nearly half, wide enough for fast products
# On a device a launch takes as long as some billion operations: 2048 tokens times a panel squared.
DEVICE_PANEL = 1024
FEW = 128  # columns that suffice for most rows to show that they lost a weight
# Of `_excess`: a relative change of G that shows entries of dead columns, and the asymmetry from
# which on G is looked at. What is refused is 1e-5.
CHANGE, ASYMMETRY = 2.5e-6, 7.5e-6


class Gram:
    """G = X Xᵀ, added up batch by batch, on a device without a wait.

    columns  b, the number of inputs of the layer
    dtype    arithmetic of the sum; batches are converted before they are squared, because
             float16 overflows from 256 on

    In float32 the products of inputs in bfloat16 or float16 are exact, and the sum over T tokens is
    off by at most γ_T sqrt(G_ii G_jj): docs/models.md.
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
    @full_precision()
    def add(self, batch: Tensor) -> None:
        """Add a batch of inputs, (..., columns): one token a row, so X is its transpose."""
        columns = len(self._matrix)
        if batch.dim() == 0 or batch.shape[-1] != columns:
            raise ValueError(f"batch must have {columns} columns, got shape {tuple(batch.shape)}")
        rows = batch.reshape(-1, columns).to(self._matrix.dtype)
        # G is symmetric: panels that end at its diagonal hold all of it, for half of the products.
        for j1, j2 in column_blocks(columns, PANEL if on_host(rows) else DEVICE_PANEL):
            self._matrix[j1:j2, j1:].addmm_(rows[:, j1:j2].T, rows[:, j1:])
        self.tokens += len(rows)

    def pool(self, add_up: Callable[[Tensor], None], tokens: int) -> None:
        """Replace G by its sum over several processes.

        add_up  replaces a tensor, in place, by its sum over the processes
        tokens  the number of tokens of all processes
        """
        add_up(self._matrix)
        self.tokens = tokens

    def matrix(self, checks: Checks | None = None) -> Tensor:
        """G, (columns, columns). Raises ValueError if an input was NaN or infinite.

        checks  for a G on a device: nothing waits for it, and `checks.look()` raises
        """
        # Checked here and not in `add`, where it would make a GPU wait for every batch. The
        # diagonal suffices: a column's sum of squares is finite only if all its inputs are.
        if not on_host(self._matrix):
            upper = self._matrix.triu()
            matrix = upper.add_(upper.triu(1).mT)
            doubt = joined([matrix.diagonal().sum()])
            if checks is None:
                _check_sums(matrix, doubt.tolist())
            else:
                checks.add(doubt, lambda total: _check_sums(matrix, total))
            return matrix
        _check_sums(self._matrix)
        matrix = self._matrix.clone()
        for j1, j2 in column_blocks(len(matrix), PANEL):
            matrix[j2:, j1:j2] = matrix[j1:j2, j2:].T
        return matrix


def _check_sums(matrix: Tensor, total: Sequence[float] = (math.inf,)) -> None:
    """Raise ValueError if a diagonal entry of G is not finite; their `total` may say so already."""
    finite = matrix.diagonal().isfinite()
    if not (math.isfinite(total[0]) or finite.all()):
        column = int((~finite).nonzero()[0])
        raise ValueError(f"batch must be finite, got NaN or infinity in column {column}")


@torch.no_grad()
@full_precision()
def objective(
    weight: Tensor, gram: Tensor, pruned_weight: Tensor, *, damping: float = 0.01
) -> float:
    """What pruning costs: f(Ŵ) = tr(D H Dᵀ), D = Ŵ − W, in float64. Spec (1).

    weight, pruned_weight (c, b); gram (b, b). Raises ValueError for what spec section 2 refuses.
    """
    layer = prepare(weight, gram, damping)
    check_matrix("pruned_weight", pruned_weight)
    check_same_shape("pruned_weight", pruned_weight, weight)
    D = pruned_weight.double() - weight.double()
    loss = ((D @ layer.hessian(torch.float64)) * D).sum()
    layer.look()
    # H alone is in units of the layer.
    return float(loss / times(torch.ones_like(loss), layer.units.gram))


@dataclass(frozen=True)
class ScaledLayer:
    """One layer's problem in units in which max|W| and mean(diag G) are near 1.

    By T7 units change no mask and add no rounding, and float32 neither over- nor underflows.

    original   (c, b), W as given
    gram       (b, b), G as given, because a copy would be large
    symmetric  whether G is known to equal its transpose; if not, copies of it are symmetrised
    damping    γ
    lam        λ = γ · mean(diag G) in the unit of G, or 1 for a zero G; a tensor, (), on a device
    units      of the weights and of G
    doubts     on a device, () each, what says that the layer may have to be refused: `_excess` of G
               unless at most 0, max|W| unless finite, and `info` of factorisations unless 0
    """

    original: Tensor
    gram: Tensor
    symmetric: bool
    damping: float
    lam: float | Tensor
    units: Units
    doubts: list[Tensor] = field(default_factory=list)

    @property
    def dtype(self) -> torch.dtype:
        """The arithmetic of the run: float64 for a float64 weight, float32 for all others."""
        return torch.float64 if self.original.dtype == torch.float64 else torch.float32

    def scaled_weight(self, weight: Tensor | None = None) -> Tensor:
        """W in the layer's units and arithmetic, (c, b), in new memory that a method may overwrite.

        weight  another weight of this layer instead of W
        """
        given = self.original if weight is None else weight
        return times(given.to(self.dtype), self.units.weight)

    def hessian(self, dtype: torch.dtype, order: Tensor | None = None) -> Tensor:
        """H = G + λI, (b, b), in new memory, its rows and columns in `order`. Spec section 1."""
        H = self.scaled_gram(dtype, order)
        H.diagonal().add_(self.lam)
        return H

    def scaled_gram(
        self, dtype: torch.dtype, order: Tensor | None = None, *, symmetrised: bool = True
    ) -> Tensor:
        """G in its units, (b, b), in new memory, rows and columns in `order`.

        symmetrised  False: whatever tells G from its transpose may stay
        """
        G = self.gram
        if order is not None:
            # G is symmetric, or will be below: gathering rows is many times faster than columns.
            G = G[order].T.contiguous()[order]
        # Scaled before it is narrowed: `dtype` may be too narrow for G in the given units.
        wide = torch.promote_types(G.dtype, dtype)
        if isinstance(self.units.gram, Tensor):
            G = G.to(wide)
            G = times(G, self.units.gram)
            return (torch.lerp(G, G.mT, 0.5) if symmetrised else G).to(dtype)
        G = G.to(wide, copy=order is None)
        if symmetrised and not self.symmetric:
            _symmetrise(G)
        return times_in_place(G, self.units.gram).to(dtype)

    def squared_norms(self) -> Tensor:
        """‖X_j‖² = G_jj, (b,), in new memory."""
        return times(self.gram.diagonal(), self.units.gram)

    def column_norms(self) -> Tensor:
        """‖X_j‖ = sqrt(G_jj), (b,). Spec section 1."""
        return self.squared_norms().sqrt_().to(self.dtype)

    def pruned(self, W: Tensor, mask: Tensor, losses: Tensor, diagnostics: Diagnostics) -> Pruned:
        """The result in the units and dtype of the original; rows that lost nothing bit for bit.

        W       (c, b), the new weight in the layer's units; it is overwritten, because fresh
                memory of its size costs more than the scaling
        mask    (c, b), True where a weight was removed
        losses  (blocks,), in the layer's units
        """
        restored = times_in_place(W, self.units.restore).to(self.original.dtype)
        if on_host(mask):
            untouched = _rows_without(mask)
            restored[untouched] = self.original[untouched]
        else:
            restored = torch.where(mask.any(dim=1, keepdim=True), restored, self.original)
        return Pruned(restored, mask, self.restored_losses(losses), diagnostics)

    def restored_losses(self, losses: Tensor) -> Tensor:
        """Losses in the units of the original, float64."""
        return self.units.restored_losses(losses.double())

    def check(self, pattern: Pattern, block_size: int) -> None:
        """Refuse a pattern that does not fit, after whatever comes before it in spec section 2."""
        c, b = self.original.shape
        try:
            pattern.check(c, b, block_size)
        except ValueError:
            self.look()
            raise

    def look(self) -> None:
        """Wait for the device; raises ValueError if the layer is refused."""
        if self.doubts:
            self.answer(joined(self.doubts).tolist())

    def answer(self, doubts: list[float]) -> None:
        """Raise the ValueError of a layer with these `doubts`, if it is refused."""
        if not doubts:
            return
        excess, largest, *failed = doubts
        if not (excess <= 0 and largest < math.inf):
            check_matrix("weight", self.original)
            check_gram(self.gram, self.original)
        if any(failed):
            raise ValueError(
                f"gram is too far from positive definite: damping = {self.damping} does not mend it"
            )

    def checked(self, pruned: Pruned, checks: Checks | None) -> Pruned:
        """The result of a method that leaves no system unfinished, looked at now or by `checks`."""
        if self.doubts:
            deferred = checks or Checks()
            deferred.add(joined(self.doubts), self.answer)
            if checks is None:
                deferred.look()
        return pruned


def prepare(weight: Tensor, gram: Tensor, damping: float) -> ScaledLayer:
    """Check a layer and choose its units: the common start of all methods.

    weight (c, b) in float64, float32, float16 or bfloat16; gram (b, b) on the same device.
    Raises ValueError, which names the argument and its value; on a device `ScaledLayer.look` does.
    """
    check_damping(damping)
    if not on_host(weight):
        return _prepare_on_device(weight, gram, damping)
    ends = check_matrix("weight", weight)
    symmetric = check_gram(gram, weight)
    G = gram if gram.dtype == torch.float64 else gram.float()
    mean = _mean_of_diagonal(G).item()
    units = Units.of_sizes(max(abs(end) for end in ends), mean)
    assert isinstance(units.gram, int)
    lam = damping * math.ldexp(mean, units.gram) if mean > 0 else 1.0
    return ScaledLayer(weight, G, symmetric, damping, lam, units)


def _prepare_on_device(weight: Tensor, gram: Tensor, damping: float) -> ScaledLayer:
    """`prepare` without a wait: what it would look at becomes a doubt."""
    check_form("weight", weight)
    try:
        check_gram_form(gram, weight)
    except ValueError:
        check_matrix("weight", weight)  # what comes first in spec section 2
        check_gram(gram, weight)
        raise
    G = gram if gram.dtype == torch.float64 else gram.float()
    mean = _mean_of_diagonal(G)
    largest = torch.linalg.vector_norm(weight, ord=math.inf)
    units = Units.on_device(largest, mean)
    lam = times(torch.add(mean == 0, mean, alpha=damping), units.gram)
    return ScaledLayer(weight, G, False, damping, lam, units, [_excess(G), largest])


def _excess(G: Tensor) -> Tensor:
    """A number, (), that is at most 0 if G is certainly finite, symmetric, and 0 in dead columns.

    With n = sqrt(diag G), a Gram matrix has |G_ij| <= n_i n_j, and G_ij = G_ji. The difference
    G_ij - (1 + CHANGE) G_ji is then at most CHANGE n_i n_j, less than the bound. If G_ij and G_ji
    are different, one of their two differences is at least as large. In a dead column the bound
    is 0, and any entry is beyond it. NaN, infinity, and the root of a negative number make NaN.
    """
    norms = G.diagonal().sqrt()
    difference = torch.sub(G, G.mT, alpha=1 + CHANGE).abs_()
    return difference.addr_(norms, norms, alpha=-ASYMMETRY).amax()


def joined(numbers: list[Tensor]) -> Tensor:
    """Numbers, () or (n,) each, as one float64 vector; whole ones up to 2**53 stay exact."""
    exact = torch.empty(0, dtype=torch.float64, device=numbers[0].device)
    return torch.cat([exact, *(some.reshape(-1) for some in numbers)])


def _mean_of_diagonal(G: Tensor) -> Tensor:
    """mean(diag G), () in float64."""
    diagonal = G.diagonal()
    if G.dtype == torch.float32:
        return diagonal.mean(dtype=torch.float64)
    return (diagonal / len(G)).sum()  # divided first: a sum near the largest number would overflow


def _symmetrise(matrix: Tensor) -> None:
    """The mean of a matrix and its transpose, in its place."""
    for tile, other in mirrored_tiles(matrix):
        mean = tile / 2 + other.T / 2
        tile.copy_(mean)
        other.copy_(mean.T)


def _rows_without(mask: Tensor) -> Tensor:
    """The indices of rows without True; the first columns decide for most rows."""
    rows = torch.arange(len(mask), device=mask.device)
    for start, end in ((0, FEW), (FEW, mask.shape[1])):
        rows = rows[~mask[rows, start:end].any(dim=1)]
    return rows
