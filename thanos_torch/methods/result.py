"""The result of pruning one layer, and how it was computed."""

from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor


@dataclass
class Diagnostics:
    """How a result was computed, for reports; no computation depends on it.

    factor         the arithmetic in which H was factorised: float64, or float32 where that loses
                   no digits
    solver_steps   conjugate-gradient steps of every block (joint update only)
    direct_rows    systems that the iteration left unfinished and a direct solver finished
    """

    factor: str = "float64"
    solver_steps: list[int] = field(default_factory=list)
    direct_rows: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Pruned:
    """A pruned layer.

    weight        (c, b), the sparse Ŵ, in the dtype and on the device of the weight given
    mask          (c, b) bool, True where a weight was removed
    block_losses  (blocks,) float64, ‖E_k‖² of every block: they add up to f(Ŵ), spec T4
    diagnostics   how the numbers were computed
    """

    weight: Tensor
    mask: Tensor
    block_losses: Tensor
    diagnostics: Diagnostics
