"""What the adapters share: a layer of PyTorch, the options of a pattern, and the way back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reference.patterns import SemiStructured, Structured, Unstructured, parse_pattern

Array = NDArray[Any]


@dataclass(frozen=True)
class Options:
    """A pattern as command lines of pruning scripts take it.

    sparsity       share of the weights or columns that go, in double precision
    n, m           zeros in a group and its width; 0 unless the pattern is n:m
    structured     whether whole columns go
    outlier_rows   share of the rows that stay
    """

    sparsity: float
    n: int = 0
    m: int = 0
    structured: bool = False
    outlier_rows: float = 0.0


def options(pattern: str) -> Options:
    """The options of a pattern's text form."""
    parsed = parse_pattern(pattern)
    if isinstance(parsed, Unstructured):
        return Options(float(parsed.sparsity))
    outliers = float(parsed.outlier_rows)
    if isinstance(parsed, SemiStructured):
        return Options(parsed.n / parsed.m, parsed.n, parsed.m, outlier_rows=outliers)
    assert isinstance(parsed, Structured)
    return Options(float(parsed.sparsity), structured=True, outlier_rows=outliers)


def linear(weight: Array, storage: str | None) -> torch.nn.Linear:
    """A linear layer without bias that holds a copy of a weight, (c, b), in its own type."""
    rows, columns = weight.shape
    layer = torch.nn.Linear(columns, rows, bias=False)
    layer.weight.requires_grad_(False)
    own = torch.from_numpy(np.array(weight, order="C"))
    layer.weight.data = own.to(torch.bfloat16) if storage == "bfloat16" else own
    return layer


def hessian(gram: Array) -> torch.Tensor:
    """The Gram matrix as a new tensor of its own type.

    It is (G + Gᵀ)/2, because every implementation sums up one that equals its transpose.
    """
    both = gram.astype(np.float64)
    return torch.from_numpy(((both + both.T) / 2).astype(gram.dtype))


def array(weight: torch.Tensor) -> Array:
    """A weight as NumPy takes it: bfloat16, which it lacks, as float32."""
    found = weight.detach()
    result: Array = (found.float() if found.dtype == torch.bfloat16 else found).numpy()
    return result


Pruner = Callable[..., tuple[Any, Any]]


def float32(*patterns: str) -> Callable[[Pruner], Pruner]:
    """Declare what a function supports: these patterns, in float32, stored in it or narrower."""

    def declare(prune: Pruner) -> Pruner:
        declared = {
            "patterns": [*patterns],
            "dtypes": ["float32"],
            "storage": ["float16", "bfloat16"],
        }
        vars(prune).update(declared)
        return prune

    return declare
