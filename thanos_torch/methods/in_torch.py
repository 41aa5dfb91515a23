"""The operations of a block by PyTorch alone: on a CPU, and on devices without kernels."""

from functools import cached_property

import torch
from torch import Tensor

from thanos_torch.methods import masks, update
from thanos_torch.methods.factor import Factor
from thanos_torch.methods.masks import Candidates, ResidualMask
from thanos_torch.methods.result import Diagnostics
from thanos_torch.methods.solver import MaskedSolver, solver_for
from thanos_torch.methods.strategy import Block, Strategy


class TorchStrategy(Strategy):
    """On a CPU it looks at numbers where that saves work; on a device it never does."""

    def __init__(self, factor: Factor, *, directly: bool = False) -> None:
        self._U = factor.U
        self._factor, self._directly = factor, directly
        self._search = ResidualMask()

    @cached_property
    def _solver(self) -> MaskedSolver:
        return solver_for(self._factor, directly=self._directly)

    def smallest(self, block: Candidates, count: int, picks: Tensor) -> None:  # noqa: D102
        picks.copy_(masks.smallest(block.scores(), count))

    def smallest_of_left(  # noqa: D102
        self, left: Candidates, count: int, removed: Tensor, picks: Tensor
    ) -> None:
        chosen = self._search.choose(left, count - removed, picks.shape[1])
        removed += torch.count_nonzero(chosen)
        picks.copy_(chosen)

    def smallest_of_groups(  # noqa: D102
        self, block: Candidates, n: int, m: int, outliers: Tensor | None, picks: Tensor
    ) -> None:
        chosen = masks.smallest_of_each_group(block.scores(), n, m)
        picks.copy_(chosen if outliers is None else chosen & ~outliers)

    def joint_update(self, W: Tensor, block: Block, picks: Tensor) -> Tensor:  # noqa: D102
        columns = slice(*block)
        # Every row of the picks is read several times, the faster for being in one piece.
        picks, U = picks.contiguous(), self._U[columns, columns]
        return update.joint_update(W[:, columns], picks, U, self._solver)

    def sequential_update(self, W: Tensor, block: Block, picks: Tensor) -> Tensor:  # noqa: D102
        columns = slice(*block)
        return update.sequential_update(W[:, columns], picks, self._U[columns, columns])

    def choosing_update(  # noqa: D102
        self, W: Tensor, block: Block, n: int, m: int, picks: Tensor
    ) -> Tensor:
        columns = slice(*block)
        U = self._U[columns, columns]
        E, chosen = update.choosing_sequential_update(W[:, columns], U, n, m)
        picks.copy_(chosen)
        return E

    def numbers(self) -> Tensor:  # noqa: D102
        return self._solver.unfinished[None]

    def tell(self, diagnostics: Diagnostics, numbers: list[float]) -> None:  # noqa: D102
        diagnostics.solver_steps = self._solver.steps
        diagnostics.direct_rows = self._solver.direct_rows
