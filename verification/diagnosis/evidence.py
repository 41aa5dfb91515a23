"""A wrong output with its input, and how far another result is from it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.patterns import Pattern, SemiStructured, Structured, parse_pattern

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# An algorithm explains an output if every row comes this close, in units of its largest |W_ij|.
SAME = {"float64": 1e-7, "float32": 1e-3, "float16": 1e-2, "bfloat16": 6e-2}
# It must also come this much closer than right code does, in the mean square. Roundings to 16 bits
# may fall to either side.
CLOSER = {"float64": 0.1, "float32": 0.1, "float16": 0.2, "bfloat16": 0.2}


@dataclass(frozen=True)
class Evidence:
    """A case, and the output that failed.

    weight, given_gram  (c, b), (b, b): the input, in float64
    pruned, mask        (c, b): the output
    precision           float64, float32, or the storage type of the output
    losses              losses of blocks, if the output has them
    """

    weight: Array
    given_gram: Array
    pattern: Pattern
    block_size: int
    damping: float
    method: str
    pruned: Array
    mask: Mask
    precision: str = "float64"
    losses: Array | None = None

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
    def gram(self) -> Array:
        """(G + Gᵀ) / 2."""
        return self.given_gram / 2 + self.given_gram.T / 2

    @cached_property
    def norms(self) -> Array:
        """‖X_j‖, (b,)."""
        return np.asarray(np.sqrt(np.diag(self.gram)))

    @cached_property
    def h(self) -> Array:
        """h_i = ‖W_i X‖², (c,). Row by row, so that equal rows have equal bits."""
        products = (self.weight[:, None, :] @ self.gram)[:, 0]
        return np.asarray(np.sum(products * self.weight, axis=1))

    @cached_property
    def sizes(self) -> Array:
        """The largest |W_ij| of every row, or 1 where all are 0, (c, 1)."""
        largest = np.max(np.abs(self.weight), axis=1, keepdims=True)
        return np.asarray(np.where(largest > 0, largest, 1.0))

    def apart(self, pruned: Array) -> tuple[float, float]:
        """How far weights are from the output: the largest distance, and the root mean square.

        The first is in units of what the precision can tell apart; at most 1 means equal.
        """
        with np.errstate(all="ignore"):
            difference = np.abs(pruned - self.pruned) / self.sizes
            largest = float(difference.max()) / SAME[self.precision]
            mean = float(np.sqrt(np.mean(difference**2)))
        return (largest, mean) if np.isfinite(largest) else (np.inf, np.inf)

    def same_weights(self, pruned: Array) -> bool:
        """Whether weights equal those of the output, as far as the precision can tell."""
        return self.apart(pruned)[0] <= 1

    def reproduced_by(self, pruned: Array, right: Array) -> bool:
        """Whether weights equal those of the output, and are closer to them than right ones."""
        largest, mean = self.apart(pruned)
        return largest <= 1 and mean <= CLOSER[self.precision] * self.apart(right)[1]


def rounded(values: Array, kind: str) -> Array:
    """Numbers rounded to a type, to nearest, ties to even; float64 numbers again."""
    if kind in ("bfloat16", "tf32"):
        digits = {"bfloat16": 8, "tf32": 11}[kind]
        shares, exponents = np.frexp(values)
        return np.asarray(np.ldexp(np.rint(np.ldexp(shares, digits)), exponents - digits))
    with np.errstate(over="ignore"):
        return values.astype(kind).astype(np.float64)


def evidence_of(case: Any, output: Any) -> Evidence:
    """The evidence of a `Case` and an `Output` of `verification.conformance`."""
    losses = output.block_losses
    return Evidence(
        weight=np.asarray(case.weight, dtype=np.float64),
        given_gram=np.asarray(case.gram, dtype=np.float64),
        pattern=parse_pattern(case.pattern),
        block_size=int(case.block_size),
        damping=case.damping,
        method=case.method,
        pruned=np.asarray(output.weight, dtype=np.float64),
        mask=np.asarray(output.mask),
        precision=case.storage or case.dtype,
        losses=None if losses is None else np.asarray(losses, dtype=np.float64),
    )
