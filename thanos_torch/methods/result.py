"""The result of pruning one layer."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Diagnostics:
    """How the numbers were made, for reports; nothing depends on it.

    factor         what H was factorised in: float64, or float32 where that loses no digits
    solver_steps   conjugate-gradient steps of every block (joint update only)
    direct_rows    systems that the iteration left unfinished and a direct solver finished
    """

    factor: str = "float64"
    solver_steps: list[int] = field(default_factory=list)
    direct_rows: int = 0

    def as_dict(self) -> dict[str, object]:
        """JSON-able."""
        return {
            "factor": self.factor,
            "solver_steps": list(self.solver_steps),
            "direct_rows": self.direct_rows,
        }


@dataclass(frozen=True)
class Pruned:
    """A pruned layer.

    weight        (c, b), the sparse Ŵ, in the dtype and on the device of the weight given
    mask          (c, b) bool, True where a weight was removed
    block_losses  (blocks,) float64, ‖E_k‖² of every block: they add up to f(Ŵ), spec T4
    diagnostics   how the numbers were made
    """

    weight: Tensor
    mask: Tensor
    block_losses: Tensor
    diagnostics: Diagnostics
