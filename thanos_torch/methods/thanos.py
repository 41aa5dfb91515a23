"""Thanos for one layer. Spec sections 3 and 4, with the ablation switches of section 7."""

import torch
from torch import Tensor

from reference.patterns import Ablation, Pattern, SemiStructured, Structured, Unstructured
from thanos_torch.methods.checks import Checks
from thanos_torch.methods.devices import on_host
from thanos_torch.methods.factor import Factor, FactorCache
from thanos_torch.methods.inputs import full_precision
from thanos_torch.methods.masks import Candidates, column_factors, outlier_mask
from thanos_torch.methods.problem import ScaledLayer, joined, prepare
from thanos_torch.methods.result import Diagnostics, Pruned
from thanos_torch.methods.strategy import Block, Strategy, strategy_for
from thanos_torch.methods.structured import structured
from thanos_torch.methods.update import walk_blocks


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
    checks: Checks | None = None,
) -> Pruned:
    """Prune one layer with Thanos, block by block. Spec (2) to (6).

    weight      (c, b), W: float64 is pruned in float64; float32, float16, bfloat16 in float32
    gram        (b, b), G = X Xᵀ of the layer's inputs, on the same device
    pattern     what to remove
    block_size  B, columns in a block; Structured ignores it
    damping     γ, the share of the mean of diag G that is added to the diagonal
    factors     a cache that layers with the same Gram matrix share; None factorises H anew
    checks      for layers on a device: nothing waits for it, and the result must not be used before
                `checks.look()`; None looks before it returns. A CPU needs none

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
    layer.check(pattern, block_size)
    factors = factors or FactorCache()
    if isinstance(pattern, Structured):
        return layer.checked(structured(layer, pattern, ablation, factors), checks)
    run = _Run(layer, factors.of(layer), pattern, block_size, ablation)
    if checks and not on_host(weight):
        checks.add(run.numbers(), run.finish)
    else:
        run.finish(run.numbers().tolist())  # the only wait for a device
    return run.pruned


class _Run:
    """One layer pruned block by block: once, and again if a system was left unfinished."""

    def __init__(
        self,
        layer: ScaledLayer,
        factor: Factor,
        pattern: Unstructured | SemiStructured,
        block_size: int,
        ablation: Ablation,
    ) -> None:
        self._layer, self._factor, self._pattern = layer, factor, pattern
        self._block_size, self._ablation = block_size, ablation
        self._strategy, self.pruned = self._prune(directly=False)

    def _prune(self, *, directly: bool) -> tuple[Strategy, Pruned]:
        strategy = strategy_for(self._factor, self._block_size, directly=directly)
        result = prune_blocks(
            self._layer, self._factor, self._pattern, self._block_size, self._ablation, strategy
        )
        return strategy, self._layer.pruned(*result, Diagnostics(self._factor.arithmetic))

    def numbers(self) -> Tensor:
        """What `finish` has to know, (n,): the layer's doubts, then the strategy's numbers."""
        return joined([*self._layer.doubts, self._strategy.numbers()])

    def finish(self, numbers: list[float]) -> None:
        """Refuse the layer, or solve directly what is unfinished. Overwrites the result then."""
        count = len(self._layer.doubts)
        self._layer.answer(numbers[:count])
        strategy, told = self._strategy, numbers[count:]
        if told[0]:
            strategy, again = self._prune(directly=True)
            told = strategy.numbers().tolist()
            if told[0]:
                raise ValueError(
                    f"a block of gram is singular in spite of damping = {self._layer.damping}"
                )
            self.pruned.weight.copy_(again.weight)
            self.pruned.mask.copy_(again.mask)
            self.pruned.block_losses.copy_(again.block_losses)
        strategy.tell(self.pruned.diagnostics, told)


def prune_blocks(
    layer: ScaledLayer,
    factor: Factor,
    pattern: Unstructured | SemiStructured,
    block_size: int,
    ablation: Ablation,
    strategy: Strategy,
) -> tuple[Tensor, Tensor, Tensor]:
    """Ŵ in the layer's units, (c, b), the mask, (c, b), and the losses of the blocks, (blocks,)."""
    W = layer.scaled_weight()
    rule = MaskRule(layer, W, factor, pattern, ablation, strategy)
    joint = ablation.update == "joint"
    update = strategy.joint_update if joint else strategy.sequential_update

    def step(W: Tensor, block: Block, picks: Tensor) -> Tensor:
        rule.choose(W, block, picks)
        return update(W, block, picks)

    mask, losses = walk_blocks(W, factor.U, block_size, step)
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
        strategy: Strategy,
    ) -> None:
        self._layer, self._factor, self._pattern, self._ablation = layer, factor, pattern, ablation
        self._strategy, self._shape = strategy, W.shape
        if isinstance(pattern, SemiStructured):
            self._outliers = None
            if pattern.outliers(len(W)):
                self._outliers = outlier_mask(layer, W, pattern, ablation.outlier_score)
        else:  # how many weights the blocks so far lost
            self._removed = torch.zeros((), dtype=torch.int64, device=W.device)
        obs = ablation.metric == "obs"  # the one whose factors depend on the block
        self._factors = None if obs else column_factors(layer, ablation.metric, factor)
        # A walk overwrites W, so scores at the start need a copy.
        self._first = None if ablation.adaptive else self._candidates(W.clone(), 0)

    def choose(self, W: Tensor, block: Block, picks: Tensor) -> None:
        """Write the mask of block [j1, j2), (c, j2 - j1): (3), (4), or an ablation.

        W  (c, b), the current weight
        """
        (c, b), (j1, j2), pattern = self._shape, block, self._pattern
        left = self._first.columns(j1) if self._first else self._candidates(W, j1)
        if isinstance(pattern, SemiStructured):
            own = left.columns(0, j2 - j1)
            self._strategy.smallest_of_groups(own, pattern.n, pattern.m, self._outliers, picks)
        elif self._ablation.residual == "global":
            count = pattern.removed(c * b)
            self._strategy.smallest_of_left(left, count, self._removed, picks)
        else:
            share = pattern.removed(c * j2) - pattern.removed(c * j1)
            self._strategy.smallest(left.columns(0, j2 - j1), share, picks)

    def _candidates(self, W: Tensor, j1: int) -> Candidates:
        """The columns from j1 on, and the metric's factors of their H_JJ."""
        metric = self._ablation.metric
        if metric == "obs":
            factors = column_factors(self._layer, metric, self._factor, j1)
        else:
            factors = None if self._factors is None else self._factors[j1:]
        return Candidates(W[:, j1:], factors, metric)
