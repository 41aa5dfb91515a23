"""The operations of a block that a CPU and a device do in different ways, behind one interface.

in_torch.py      PyTorch's operations alone: a CPU, and devices without kernels
with_kernels.py  Triton's kernels: a few launches a block
"""

from abc import ABC, abstractmethod

from torch import Tensor

from thanos_torch.methods.devices import has_kernels, on_host
from thanos_torch.methods.factor import Factor
from thanos_torch.methods.masks import Candidates
from thanos_torch.methods.result import Diagnostics

Block = tuple[int, int]  # (j1, j2), the borders of its columns


class Strategy(ABC):
    """Works on the blocks of one layer, from left to right; `strategy_for` chooses the kind.

    `picks`, (c, B), is a part of the layer's mask, which the methods for masks fill. The updates
    overwrite `W`, (c, b), in the columns of the block, and return E_k, (c, B): `update.py`.
    """

    @abstractmethod
    def smallest(self, block: Candidates, count: int, picks: Tensor) -> None:
        """Pick the `count` smallest scores of a block."""

    @abstractmethod
    def smallest_of_left(
        self, left: Candidates, count: int, removed: Tensor, picks: Tensor
    ) -> None:
        """Pick the block's part of the `count - removed` smallest scores of all that is left. (3).

        left     the columns from the block's first on
        removed  (), int64, on the device of the weights; what is picked is added to it
        """

    @abstractmethod
    def smallest_of_groups(
        self, block: Candidates, n: int, m: int, outliers: Tensor | None, picks: Tensor
    ) -> None:
        """Pick the n smallest scores of every group of m columns, but in outlier rows. (4).

        outliers  (c, 1), bool, or None if there are none
        """

    @abstractmethod
    def joint_update(self, W: Tensor, block: Block, picks: Tensor) -> Tensor:
        """Remove the picks of every row at once. (6)."""

    @abstractmethod
    def sequential_update(self, W: Tensor, block: Block, picks: Tensor) -> Tensor:
        """Remove the picks one column after another, as SparseGPT does. Section 6."""

    @abstractmethod
    def choosing_update(self, W: Tensor, block: Block, n: int, m: int, picks: Tensor) -> Tensor:
        """`sequential_update` that picks n of each group of m when it gets there. Section 6."""

    @abstractmethod
    def numbers(self) -> Tensor:
        """Numbers about the systems of all blocks, (n,), on the device, to be looked at later.

        The first one is how many rows are unfinished; `tell` understands the others.
        """

    @abstractmethod
    def tell(self, diagnostics: Diagnostics, numbers: list[float]) -> None:
        """Write how the systems were solved into `diagnostics`; `numbers` as looked at."""


def strategy_for(factor: Factor, block_size: int, *, directly: bool = False) -> Strategy:
    """The strategy for a layer on the device of its factor.

    directly  whether the systems of all rows are solved by Cholesky
    """
    # Imported here, because these files import this one; kernels need Triton as well.
    from thanos_torch.methods.in_torch import TorchStrategy

    if directly or on_host(factor.U) or not has_kernels(factor.U):
        return TorchStrategy(factor, directly=directly)
    from thanos_torch.methods.with_kernels import KernelStrategy

    return KernelStrategy(factor, block_size)
