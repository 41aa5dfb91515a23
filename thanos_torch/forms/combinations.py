"""Numbers for subsets: which k of m places are taken, as one of C(m, k) codes.

The combinatorial number system: places p_1 < p_2 < ... have the number C(p_1, 1) + C(p_2, 2) + ...
No code of fixed length is shorter.
"""

from math import comb

import torch
from torch import Tensor

MOST = 64  # places: C(64, 32) still fits into int64


def code_bits(m: int, k: int) -> int:
    """Bits of a code for k of m places: ceil(log2 C(m, k))."""
    return (comb(m, k) - 1).bit_length()


def rank(taken: Tensor) -> Tensor:
    """The number of every row of `taken`, (groups, m) bool; int64, (groups,)."""
    groups, m = taken.shape
    numbers, seen = (torch.zeros(groups, dtype=torch.int64, device=taken.device) for _ in range(2))
    for place in range(m):
        here = taken[:, place]
        seen += here
        numbers += torch.where(here, _row(place, m, taken.device)[seen], 0)
    return numbers


def unrank(numbers: Tensor, m: int, k: int) -> Tensor:
    """The rows that `rank` numbered, (groups, m) bool, each with k places taken."""
    taken = torch.empty(len(numbers), m, dtype=torch.bool, device=numbers.device)
    left = torch.full_like(numbers, k)
    for place in reversed(range(m)):
        share = _row(place, m, numbers.device)[left]
        here = numbers >= share  # with none left the number is 0, and C(place, 0) = 1
        numbers = torch.where(here, numbers - share, numbers)
        left = left - here.long()
        taken[:, place] = here
    return taken


def _row(place: int, m: int, device: torch.device) -> Tensor:
    """C(place, 0), ..., C(place, m)."""
    return torch.tensor([comb(place, k) for k in range(m + 1)], device=device)
