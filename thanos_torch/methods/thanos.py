"""Thanos for one layer. Spec sections 3 and 4, with the ablation switches of section 7."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from reference.patterns import Ablation, Pattern, SemiStructured, Structured, Unstructured
from thanos_torch.methods.factor import Factor, FactorCache
from thanos_torch.methods.inputs import full_precision
from thanos_torch.methods.masks import (
    Candidates,
    ResidualMask,
    column_factors,
    outlier_mask,
    smallest,
    smallest_of_each_group,
)
from thanos_torch.methods.problem import ScaledLayer, prepare
from thanos_torch.methods.result import Diagnostics, Pruned
from thanos_torch.methods.solver import MaskedSolver, solver_for
from thanos_torch.methods.structured import structured
from thanos_torch.methods.update import joint_update, sequential_update, walk_blocks

Block = tuple[int, int]  # (j1, j2), the borders of its columns


@torch.no_grad()
@full_precision()
def thanos(
    weight: Tensor,
    gram: Tensor,
    pattern: Pattern,
    *,
    block_size: int = 128,
    damping: float = 0.01,
    adaptive: bool = True,
    residual: str = "global",
    update: str = "joint",
    metric: str = "wanda",
    outlier_score: str = "output",
    factors: FactorCache | None = None,
) -> Pruned:
    """Prune one layer with Thanos, block by block. Spec (2) to (6).

    weight      (c, b), W: float64 is pruned in float64; float32, float16, bfloat16 in float32
    gram        (b, b), G = X Xᵀ of the layer's inputs, on the same device
    pattern     what to remove
    block_size  B, columns in a block; Structured ignores it
    damping     γ, the share of the mean of diag G that is added to the diagonal
    factors     a cache that layers with the same Gram matrix share; None factorises H anew

    Ablations, spec section 7; the defaults are the paper's algorithm:
    adaptive    False: all masks from the scores at the start, J = all columns
    residual    "local": every block removes its own share of an unstructured count
    update      "sequential": SparseGPT's update instead of (6)
    metric      "magnitude", |W|, or "obs", W²/((H_JJ)⁻¹)_jj, instead of (2), "wanda"
    outlier_score   "wanda": outlier rows by Σ_j W_ij² G_jj instead of h_i, "output"

    Raises ValueError for what spec section 2 refuses.
    """
    ablation = Ablation(adaptive, residual, update, metric, outlier_score)
    ablation.check()
    layer = prepare(weight, gram, damping)
    pattern.check(len(weight), weight.shape[1], block_size)
    factors = factors or FactorCache()
    if isinstance(pattern, Structured):
        return structured(layer, pattern, ablation, factors)
    factor = factors.of(layer)
    solver = solver_for(factor)
    result = prune_blocks(layer, factor, pattern, block_size, ablation, solver)
    if solver.unfinished:  # the only wait for a device, after the last block
        solver = solver_for(factor, directly=True)
        result = prune_blocks(layer, factor, pattern, block_size, ablation, solver)
        if solver.unfinished:
            raise ValueError(f"a block of gram is singular in spite of damping = {damping}")
    return layer.pruned(*result, Diagnostics(factor.arithmetic, solver.steps, solver.direct_rows))


def prune_blocks(
    layer: ScaledLayer,
    factor: Factor,
    pattern: Unstructured | SemiStructured,
    block_size: int,
    ablation: Ablation,
    solver: MaskedSolver,
) -> tuple[Tensor, Tensor, Tensor]:
    """Ŵ in the layer's units, (c, b), the mask, (c, b), and the losses of the blocks, (blocks,)."""
    W, U = layer.scaled_weight(), factor.U
    rule = MaskRule(layer, W, factor, pattern, ablation)
    update: Callable[[Tensor, Tensor, Tensor], Tensor] = sequential_update
    if ablation.update == "joint":
        update = partial(joint_update, solver=solver)

    def step(W: Tensor, block: Block, removed: Tensor) -> tuple[Tensor, Tensor]:
        j1, j2 = block
        mask = rule.choose(W, block, removed)
        return mask, update(W[:, j1:j2], mask, U[j1:j2, j1:j2])

    mask, losses = walk_blocks(W, U, block_size, step)
    return W, mask, losses


class MaskRule:
    """Chooses the mask of one block after another, by (3), (4) or an ablation; made once a layer.

    W  (c, b), the layer's weight in its units, before any update
    """

    def __init__(
        self,
        layer: ScaledLayer,
        W: Tensor,
        factor: Factor,
        pattern: Unstructured | SemiStructured,
        ablation: Ablation,
    ) -> None:
        self._layer, self._factor, self._pattern, self._ablation = layer, factor, pattern, ablation
        self._ordinary = ~outlier_mask(layer, W, pattern, ablation.outlier_score)
        # A walk overwrites W, so scores at the start need a copy.
        self._first = None if ablation.adaptive else self._candidates(W.clone(), 0)
        self._search = ResidualMask()

    def choose(self, W: Tensor, block: Block, removed: Tensor) -> Tensor:
        """The mask of block [j1, j2), (c, j2 - j1).

        W        (c, b), the current weight
        removed  (), how many weights the blocks before it lost
        """
        j1, _ = block
        left = self._first.columns(j1) if self._first else self._candidates(W, j1)
        mask = self._picks(left, block, removed)
        mask &= self._ordinary
        return mask

    def _candidates(self, W: Tensor, j1: int) -> Candidates:
        """The columns from j1 on, and the metric's factors of their H_JJ."""
        metric = self._ablation.metric
        return Candidates(W[:, j1:], column_factors(self._layer, metric, self._factor, j1), metric)

    def _picks(self, left: Candidates, block: Block, removed: Tensor) -> Tensor:
        """The picks among all rows: (4), (3), or the block's own share of an unstructured count."""
        (c, left_columns), (j1, j2), pattern = left.weight.shape, block, self._pattern
        if isinstance(pattern, SemiStructured):
            return smallest_of_each_group(left.columns(0, j2 - j1).scores(), pattern.n, pattern.m)
        if self._ablation.residual == "global":
            r = pattern.removed(c * (j1 + left_columns)) - removed
            return self._search.choose(left, r, j2 - j1)
        share = pattern.removed(c * j2) - pattern.removed(c * j1)
        return smallest(left.columns(0, j2 - j1).scores(), share)
