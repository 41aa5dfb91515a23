"""Thanos as its authors published it, and OPTIMA's copy: `Thanos.snap`.

Their class gets a layer, and in the place of the statistics that it sums up itself: the Gram matrix
(`H`), and its diagonal (`scaler_row`, and `X_squared_sum` as of one token, whose sum over tokens is
all that they use). It runs on the CPU: `torch.cuda.synchronize`, which waits for a GPU, does
nothing. Their code computes in float32 throughout. They reorder rows and columns before they prune
groups or columns, and the adapter observes by which order they undo that.
"""

from collections.abc import Callable
from typing import Any

import torch

from verification.scoreboard.adapters.layer import Given, Options, adapter
from verification.scoreboard.adapters.observed import Zeroed, is_zero

WHOLE = 128  # their default: structured pruning has no blocks, but 1 selects another algorithm

torch.cuda.synchronize = lambda *_: None


class Reordered(Zeroed):
    """Records zeros in reordered rows and columns, and the indices that undo the order."""

    def __init__(self, asked: Options, shape: tuple[int, int]) -> None:
        self._whole = shape
        self._asked = asked
        self._orders: list[Any] = []
        self._columns = 0
        ordinary = shape[0] - (int(asked.outlier_rows * shape[0]) + 1 if self.reorders else 0)
        super().__init__(ordinary)

    @property
    def reorders(self) -> bool:
        """Whether rows are sorted, so that those that stay are the last ones."""
        return bool(self._asked.n or self._asked.structured)

    def before(self, func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Record what is zeroed and reordered."""
        if func is torch.Tensor.__getitem__ and tuple(args[0].shape) == self._whole:
            self._orders.append(args[1])
        if func is torch.Tensor.__setitem__ and self._is_columns(*args[1:]):
            self._columns = args[1][1].stop
        super().before(func, args)

    def _is_columns(self, index: Any, value: Any) -> bool:
        """Whether this is `W[:, :s] = 0.0`."""
        return isinstance(index, tuple) and isinstance(index[-1], slice) and is_zero(value)

    def mask(self) -> torch.Tensor:
        """What was removed, (c, b), in the order of the layer."""
        if not self.reorders:
            return super().mask()
        found = torch.zeros(self._whole, dtype=torch.bool)
        if self._asked.structured:
            found[: self._rows, : self._columns] = True
            rows, columns = self._orders[-2:]
            return found[rows][columns]
        found[: self._rows] = super().mask()
        return found[self._orders[-1]]


def pruned_by(thanos: type) -> Callable[..., tuple[Any, Any]]:
    """The function that prunes with a class like theirs."""

    # The patterns of their command line; n:m works for n = m/2 alone.
    @adapter("unstructured", "2:4", "4:8", "structured", "outlier-rows")
    def prune(given: Given) -> tuple[torch.Tensor, torch.Tensor]:
        """Prune with the arguments of their command line, and the block size of the given."""
        asked, layer = given.asked, given.layer
        run = thanos(layer)
        run.H = given.gram
        run.scaler_row = run.H.diagonal().clone()
        run.X_squared_sum = run.scaler_row[:, None].clone()
        with Reordered(asked, (given.rows, given.columns)) as observed:
            run.snap(
                asked.sparsity,
                prune_n=asked.n,
                prune_m=asked.m,
                blocksize=WHOLE if asked.structured else given.block_size,
                percdamp=given.damping,
                structured=asked.structured,
                perc_outliers=asked.outlier_rows,
            )
        return layer.weight, observed.mask()

    return prune
