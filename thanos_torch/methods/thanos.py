"""Thanos for one layer. Spec sections 3 and 4, with the ablation switches of section 7."""

from dataclasses import dataclass

import torch
from torch import Tensor

from reference.patterns import Ablation, Pattern, SemiStructured, Structured, Unstructured
from thanos_torch.methods.factor import inverse_factor
from thanos_torch.methods.inputs import full_precision
from thanos_torch.methods.masks import (
    column_factors,
    outlier_mask,
    smallest,
    smallest_of_each_group,
)
from thanos_torch.methods.residual import Candidates, ResidualMask
from thanos_torch.methods.result import Diagnostics, Pruned
from thanos_torch.methods.scaled import ScaledLayer, prepare
from thanos_torch.methods.solver import MaskedSolver
from thanos_torch.methods.structured import structured
from thanos_torch.methods.update import joint_update, sequential_update, walk_blocks


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
) -> Pruned:
    """Prune one layer with Thanos, block by block. Spec (2) to (6).

    weight      (c, b), W: float64 is pruned in float64; float32, float16, bfloat16 in float32
    gram        (b, b), G = X Xᵀ of the layer's inputs, on the same device
    pattern     what to remove
    block_size  B, columns in a block; Structured ignores it
    damping     γ, the share of the mean of diag G that is added to the diagonal

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
    layer = prepare(weight, gram, pattern, block_size, damping)
    if isinstance(pattern, Structured):
        return structured(layer, pattern, ablation)
    diagnostics = Diagnostics()
    U = inverse_factor(layer, diagnostics)
    walk = BlockWalk(pattern, block_size, ablation)
    solver = MaskedSolver(weight.device)
    pruned = walk.prune(layer, U, solver, diagnostics)
    if solver.unfinished:  # the one look at a device, behind the last block
        layer = prepare(weight, gram, pattern, block_size, damping)  # its weight was moved
        diagnostics = Diagnostics(diagnostics.factor)
        solver = MaskedSolver(weight.device, directly=True)
        pruned = walk.prune(layer, U, solver, diagnostics)
        if solver.unfinished:
            raise ValueError(f"a block of gram is singular in spite of damping = {damping}")
    diagnostics.direct_rows = solver.direct_rows
    return pruned


@dataclass(frozen=True)
class BlockWalk:
    """Thanos over the blocks of a layer; the arguments of `thanos` that tell how."""

    pattern: Unstructured | SemiStructured
    block_size: int
    ablation: Ablation

    def prune(
        self, layer: ScaledLayer, U: Tensor, solver: MaskedSolver, diagnostics: Diagnostics
    ) -> Pruned:
        """Prune a layer, whose scaled weight is overwritten."""
        adaptive, metric = self.ablation.adaptive, self.ablation.metric
        spared = outlier_mask(layer, self.pattern, self.ablation.outlier_score)
        first_weight = layer.weight if adaptive else layer.weight.clone()
        first = None if adaptive else column_factors(layer, U, metric)
        search = ResidualMask()

        def step(W: Tensor, block: tuple[int, int], removed: Tensor) -> tuple[Tensor, Tensor]:
            j1, j2 = block
            if adaptive:
                seen, factors = W, column_factors(layer, U[j1:, j1:], metric)
            else:
                seen, factors = first_weight, None if first is None else first[j1:]

            left = Candidates(seen[:, j1:], factors, metric)
            mask = self.choose_mask(left, search, block, removed)
            mask &= ~spared
            U_kk = U[j1:j2, j1:j2]
            if self.ablation.update == "joint":
                return mask, joint_update(W[:, j1:j2], mask, U_kk, solver, diagnostics)
            return mask, sequential_update(W[:, j1:j2], mask, U_kk)

        return walk_blocks(layer, U, self.block_size, step, diagnostics)

    def choose_mask(
        self, left: Candidates, search: ResidualMask, block: tuple[int, int], removed: Tensor
    ) -> Tensor:
        """The picks of block [j1, j2): (3), (4), or a block's own share of an unstructured count.

        left     what is left to choose from, the columns from j1 on
        removed  how many weights are gone already, ()
        """
        (c, left_columns), (j1, j2) = left.weight.shape, block
        if isinstance(self.pattern, SemiStructured):
            return smallest_of_each_group(left.scores(j2 - j1), self.pattern.n, self.pattern.m)
        if self.ablation.residual == "global":
            r = self.pattern.removed(c * (j1 + left_columns)) - removed
            return search.choose(left, r, j2 - j1)
        share = self.pattern.removed(c * j2) - self.pattern.removed(c * j1)
        return smallest(left.scores(j2 - j1), share)
