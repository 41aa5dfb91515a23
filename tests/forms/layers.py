"""Pruned weights to store: every pattern, every dtype, and zeros that are easily lost."""

import torch
from torch import Tensor

from reference.patterns import Pattern, SemiStructured, Structured, Unstructured

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
PATTERNS: list[Pattern] = [
    Unstructured(0.5),
    SemiStructured(2, 4),
    SemiStructured(2, 4, 0.1),
    SemiStructured(3, 4),
    SemiStructured(1, 8, 0.2),
    SemiStructured(4, 8),
    SemiStructured(24, 48),
    SemiStructured(2, 2),
    Structured(0.3),
    Structured(0.3, 0.1),
    Structured(0.9, 0.1),
]


def pruned(
    pattern: Pattern, dtype: torch.dtype = torch.float32, shape: tuple[int, int] = (13, 48)
) -> tuple[Tensor, Tensor]:
    """A random weight and its mask, both (c, b); some kept weights are 0.0, -0.0 and NaN."""
    generator = torch.Generator().manual_seed(7)
    rows, columns = shape
    weight = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    weight[0, ::3], weight[1, ::3], weight[2, ::5] = 0.0, -0.0, float("nan")
    scores = torch.rand(shape, generator=generator)
    mask = torch.zeros(shape, dtype=torch.bool)
    if isinstance(pattern, Unstructured):
        lowest = scores.flatten().argsort()[: pattern.removed(rows * columns)]
        mask.view(-1)[lowest] = True
    elif isinstance(pattern, SemiStructured):
        order = scores.view(-1, pattern.m).argsort(dim=1)[:, : pattern.n]
        mask.view(-1, pattern.m).scatter_(1, order, True)
    else:
        mask[:, scores[0].argsort()[: pattern.removed(columns)]] = True
    if not isinstance(pattern, Unstructured):
        mask[scores[:, 0].argsort()[: pattern.outliers(rows)]] = False
    return weight.masked_fill(mask, 0.0), mask
