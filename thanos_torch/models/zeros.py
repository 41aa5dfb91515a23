"""The zeros of a weight, and the patterns that they make."""

from dataclasses import dataclass

import torch
from torch import Tensor

GROUPS = (2, 4, 8, 16)  # the m of n:m that are looked for


@dataclass(frozen=True)
class Zeros:
    """What can be seen of a weight, (c, b).

    zeros      how many entries are zero
    columns    how many columns hold nothing but zeros
    dense_rows how many rows hold no zero at all: outlier rows, if there are others
    n_of_m     the n:m that hold: every other row has at least n zeros in every aligned group of m
               columns, n counting the zeros. Those that follow from a smaller m are left out
    """

    shape: tuple[int, int]
    zeros: int
    columns: int
    dense_rows: int
    n_of_m: tuple[tuple[int, int], ...]

    @property
    def sparsity(self) -> float:
        """Share of the entries that are zero."""
        return self.zeros / (self.shape[0] * self.shape[1])

    def describe(self) -> str:
        """For people: `2:4`, `12 columns`, ... or nothing if there is no pattern."""
        found = [f"{n}:{m}" for n, m in self.n_of_m]
        if self.columns:
            found.append(f"{self.columns} zero columns")
        if found and self.dense_rows:
            found.append(f"{self.dense_rows} dense rows")
        return ", ".join(found)


def look(weight: Tensor) -> Zeros:
    """Look at a weight, (c, b)."""
    zero = weight == 0
    rows = zero[zero.any(dim=1)]
    columns = int(rows.all(dim=0).sum()) if len(rows) else 0
    return Zeros(
        (weight.shape[0], weight.shape[1]),
        int(zero.sum()),
        columns,
        len(weight) - len(rows),
        _groups(rows),
    )


def fewest_zeros(zero: Tensor, m: int) -> int | None:
    """Of all aligned groups of m columns of `zero`, (c, b) bool; None if m does not divide b."""
    if not zero.numel() or zero.shape[1] % m:
        return None
    return int(zero.view(len(zero), -1, m).sum(dim=2, dtype=torch.uint8).min())


def _groups(zero: Tensor) -> tuple[tuple[int, int], ...]:
    """The n:m of these rows; 4:8 says nothing where 2:4 holds."""
    found: list[tuple[int, int]] = []
    for m in GROUPS:
        n = fewest_zeros(zero, m) or 0
        implied = max((k * (m // j) for k, j in found), default=0)
        if n > implied:
            found.append((n, m))
    return tuple(found)
