"""A wrong output with its input, and how far another result is from it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.patterns import Pattern, SemiStructured, Structured, parse_pattern

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# An algorithm explains an output if it comes this close, in units of max|W|.
SAME = {"float64": 1e-7, "float32": 1e-3, "float16": 1e-2, "bfloat16": 6e-2}


@dataclass(frozen=True)
class Evidence:
    """A case, and the output that failed.

    weight, gram  (c, b), (b, b): the input, in float64
    pruned, mask  (c, b): the output
    precision     float64, float32, or the storage type: how finely outputs can be told apart
    """

    weight: Array
    gram: Array
    pattern: Pattern
    block_size: int
    damping: float
    method: str
    pruned: Array
    mask: Mask
    precision: str = "float64"

    @property
    def shape(self) -> tuple[int, int]:
        """(c, b)."""
        rows, columns = self.weight.shape
        return rows, columns

    @property
    def width(self) -> int:
        """Columns of a block; Thanos prunes a structured pattern in one block."""
        whole = self.method == "thanos" and isinstance(self.pattern, Structured)
        return self.shape[1] if whole else min(self.block_size, self.shape[1])

    @property
    def group(self) -> int:
        """M of an n:m pattern, else 1."""
        return self.pattern.m if isinstance(self.pattern, SemiStructured) else 1

    @property
    def outlier_count(self) -> int:
        """The number of outlier rows, ⌈αc⌉."""
        count = getattr(self.pattern, "outliers", None)
        return count(self.shape[0]) if count else 0

    @cached_property
    def norms(self) -> Array:
        """‖X_j‖, (b,)."""
        return np.asarray(np.sqrt(np.diag(self.gram)))

    @cached_property
    def h(self) -> Array:
        """h_i = ‖W_i X‖², (c,)."""
        return np.asarray(np.sum((self.weight @ self.gram) * self.weight, axis=1))

    def distance(self, pruned: Array, mask: Mask) -> tuple[int, float]:
        """How far a result is from the output: differing mask entries, and distance of weights.

        The distance is in units of what the precision can tell apart; at most 1 means equal.
        """
        size = float(np.max(np.abs(self.weight))) or 1.0
        with np.errstate(invalid="ignore", over="ignore"):
            difference = float(np.max(np.abs(pruned - self.pruned)))
        apart = difference / size / SAME[self.precision]
        return int((mask != self.mask).sum()), apart if np.isfinite(apart) else np.inf


def evidence_of(case: Any, output: Any) -> Evidence:
    """The evidence of a `Case` and an `Output` of `verification.conformance`."""
    return Evidence(
        weight=np.asarray(case.weight, dtype=np.float64),
        gram=np.asarray(case.gram, dtype=np.float64),
        pattern=parse_pattern(case.pattern),
        block_size=int(case.block_size),
        damping=case.damping,
        method=case.method,
        pruned=np.asarray(output.weight, dtype=np.float64),
        mask=np.asarray(output.mask),
        precision=case.storage or case.dtype,
    )
