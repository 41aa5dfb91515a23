"""The operations of a block by Triton's kernels: a few launches, without a wait.

This file is imported only where Triton is. Blocks wider than the kernels can hold go PyTorch's way;
SparseGPT's sweep goes through them in parts.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from reference.patterns import column_blocks
from thanos_torch.methods.factor import Factor
from thanos_torch.methods.in_torch import TorchStrategy
from thanos_torch.methods.kernels import groups, scores, smallest, sweep, systems
from thanos_torch.methods.masks import Candidates
from thanos_torch.methods.problem import joined
from thanos_torch.methods.result import Diagnostics
from thanos_torch.methods.solver import TARGET
from thanos_torch.methods.strategy import Block

METRICS = {
    "magnitude": scores.MAGNITUDE,
    "wanda": scores.WANDA,
    "obs": scores.OBS,
    "sparsegpt": scores.SPARSEGPT,
}
WIDEST = min(systems.WIDEST, sweep.WIDEST)


class KernelStrategy(TorchStrategy):
    """One launch for the systems of a block, five for its part of the r smallest scores."""

    def __init__(self, factor: Factor, block_size: int) -> None:
        super().__init__(factor)
        self._block_size = min(block_size, len(factor.U))
        self._borders = list(column_blocks(len(factor.U), self._block_size))
        # One piece of zeros: for histograms, for a count that is 0, for what the systems report.
        size = smallest.workspace_size(factor.U.dtype)
        zeros = torch.zeros(
            size + 4 + len(self._borders), dtype=torch.int32, device=factor.U.device
        )
        self._work, counts, self._steps = zeros[:size], zeros[size : size + 4], zeros[size + 4 :]
        self._none, self._unfinished = counts.view(torch.int64)[:1], counts.view(torch.int64)[1:]

    @cached_property
    def _shared(self) -> "_SharedSystems":
        return _shared_systems(self._U, self._borders)

    @property
    def _wide(self) -> bool:
        return self._block_size > WIDEST

    def smallest(self, block: Candidates, count: int, picks: Tensor) -> None:  # noqa: D102
        if self._wide:
            super().smallest(block, count, picks)
        else:
            self._smallest(block, count, self._none, picks)

    def smallest_of_left(  # noqa: D102
        self, left: Candidates, count: int, removed: Tensor, picks: Tensor
    ) -> None:
        if self._wide:
            super().smallest_of_left(left, count, removed, picks)
        else:
            self._smallest(left, count, removed, picks)
            removed += torch.count_nonzero(picks)

    def _smallest(self, left: Candidates, count: int, removed: Tensor, picks: Tensor) -> None:
        metric = METRICS[left.metric]
        smallest.smallest(left.weight, left.factors, metric, count, removed, self._work, picks)

    def smallest_of_groups(  # noqa: D102
        self, block: Candidates, n: int, m: int, outliers: Tensor | None, picks: Tensor
    ) -> None:
        if self._wide:
            return super().smallest_of_groups(block, n, m, outliers, picks)
        metric = METRICS[block.metric]
        groups.smallest_of_groups(block.weight, block.factors, metric, n, m, outliers, picks)

    def joint_update(self, W: Tensor, block: Block, picks: Tensor) -> Tensor:  # noqa: D102
        if self._wide:
            return super().joint_update(W, block, picks)
        shared, number, columns = self._shared, block[0] // self._block_size, slice(*block)
        E: Tensor = systems.joint_update(
            W[:, columns],
            picks,
            self._U[columns, columns],
            shared.scale[number],
            shared.exact[number],
            shared.rounded[number],
            shared.inverse[number],
            TARGET[W.dtype],
            self._unfinished,
            self._steps[number : number + 1],
        )
        return E

    def sequential_update(self, W: Tensor, block: Block, picks: Tensor) -> Tensor:  # noqa: D102
        return self._sweep(W, block, picks, 0, 0, WIDEST)

    def choosing_update(  # noqa: D102
        self, W: Tensor, block: Block, n: int, m: int, picks: Tensor
    ) -> Tensor:
        if m > WIDEST:
            return super().choosing_update(W, block, n, m, picks)
        return self._sweep(W, block, picks, n, m, WIDEST - WIDEST % m)

    def _sweep(self, W: Tensor, block: Block, picks: Tensor, n: int, m: int, widest: int) -> Tensor:
        """The sweep of a block, in parts of at most `widest` columns."""
        U, (j1, j2) = self._U, block
        errors = []
        for start, end in column_blocks(j2 - j1, widest):
            part = slice(j1 + start, j1 + end)
            E = sweep.sweep(W[:, part], picks[:, start:end], U[part, part], n, m)
            errors.append(E)
            if end < j2 - j1:
                W[:, j1 + end : j2].addmm_(E, U[part, j1 + end : j2])
        return errors[0] if len(errors) == 1 else torch.cat(errors, dim=1)

    def numbers(self) -> Tensor:  # noqa: D102
        if self._wide:
            return super().numbers()
        return joined([self._unfinished, self._steps])

    def tell(self, diagnostics: Diagnostics, numbers: list[float]) -> None:  # noqa: D102
        if self._wide:
            super().tell(diagnostics, numbers)
        else:
            diagnostics.solver_steps = [int(steps) for steps in numbers[1:]]


@dataclass(frozen=True)
class _SharedSystems:
    """`solver.BlockSystem` of all blocks: (blocks, B) and three times (blocks, B, B).

    A narrower last block is filled up with the identity, which no kernel reads.
    """

    scale: Tensor
    exact: Tensor
    rounded: Tensor
    inverse: Tensor


def _shared_systems(U: Tensor, borders: list[Block]) -> _SharedSystems:
    """What the systems of all rows of each block share, for all blocks at once, in float64."""
    width, device = borders[0][1], U.device
    identity = torch.eye(width, dtype=torch.float64, device=device)
    blocks = identity.repeat(len(borders), 1, 1)
    full = len(U) // width
    steps = (width * (U.stride(0) + 1), U.stride(0), 1)  # from block to block along the diagonal
    blocks[:full].copy_(U.as_strided((full, width, width), steps))
    j1, j2 = borders[-1]
    if j2 - j1 < width:
        blocks[-1, : j2 - j1, : j2 - j1].copy_(U[j1:j2, j1:j2])
    scale = torch.linalg.vector_norm(blocks, dim=1).reciprocal_()  # (blocks, width)
    blocks.mul_(scale[:, None, :])  # columns of norm 1, so that R has a unit diagonal
    exact = blocks.mT @ blocks
    root = torch.linalg.solve_triangular(blocks, identity.expand_as(blocks), upper=True)
    inverse = root @ root.mT
    return _SharedSystems(scale, exact, exact.to(U.dtype), inverse.to(U.dtype))
