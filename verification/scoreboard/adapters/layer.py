"""What the adapters share: the way from arrays to a layer of PyTorch, and the way back."""

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


@dataclass(frozen=True)
class Given:
    """One layer to prune, as PyTorch code takes it.

    layer       a linear layer without bias that holds a copy of the weight, (c, b), in its own type
    gram        (G + Gᵀ)/2 of its own type, (b, b): every implementation sums up one that equals
                its transpose
    pattern     the text form
    asked       the same as options
    block_size  B
    damping     γ
    """

    layer: torch.nn.Linear
    gram: torch.Tensor
    pattern: str
    asked: Options
    block_size: int
    damping: float

    @property
    def rows(self) -> int:
        """The number of output rows, c."""
        return self.layer.out_features

    @property
    def columns(self) -> int:
        """The number of input columns, b."""
        return self.layer.in_features


Adapter = Callable[[Given], tuple[torch.Tensor, torch.Tensor]]


def adapter(*patterns: str) -> Callable[[Adapter], Callable[..., tuple[Array, Array]]]:
    """Make a function for `thanos verify` of one that returns the pruned weight and its mask.

    It declares what all of these implementations compute in: float32, stored in it or narrower.

    patterns  kinds of patterns, or single ones, that the implementation offers
    """

    def declare(prune: Adapter) -> Callable[..., tuple[Array, Array]]:
        def judged(
            weight: Array,
            gram: Array,
            pattern: str,
            block_size: int,
            damping: float,
            *,
            storage: str | None = None,
        ) -> tuple[Array, Array]:
            call = Given(
                _linear(weight, storage),
                _symmetric(gram),
                pattern,
                options(pattern),
                block_size,
                damping,
            )
            pruned, mask = prune(call)
            return _array(pruned), mask.numpy()

        vars(judged).update(
            patterns=[*patterns], dtypes=["float32"], storage=["float16", "bfloat16"]
        )
        return judged

    return declare


def _linear(weight: Array, storage: str | None) -> torch.nn.Linear:
    rows, columns = weight.shape
    layer = torch.nn.Linear(columns, rows, bias=False)
    layer.weight.requires_grad_(False)
    own = torch.from_numpy(np.array(weight, order="C"))
    layer.weight.data = own.to(torch.bfloat16) if storage == "bfloat16" else own
    return layer


def _symmetric(gram: Array) -> torch.Tensor:
    both = gram.astype(np.float64)
    return torch.from_numpy(((both + both.T) / 2).astype(gram.dtype))


def _array(weight: torch.Tensor) -> Array:
    """A weight as NumPy takes it: bfloat16, which it lacks, as float32."""
    found = weight.detach()
    result: Array = (found.float() if found.dtype == torch.bfloat16 else found).numpy()
    return result
