"""The array types of the reference."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]
Indices: TypeAlias = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Pruned:
    """A pruned layer.

    weight        (c, b), the sparse Ŵ
    mask          (c, b), True where a weight was removed
    block_losses  (blocks,), ‖E_k‖² of every block: they add up to f(Ŵ), T4
    """

    weight: Array
    mask: Mask
    block_losses: Array
