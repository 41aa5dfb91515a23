"""The implementations under test behind one adapter that takes and returns NumPy arrays.

Arrays are passed with their own dtype; tests should give `Implementation.dtype`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import reference
import thanos_torch
from reference import Pattern, Pruned
from verification import Certificate, certify
from verification.strategies import Problem

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Implementation:
    """An implementation of the methods, of `refit`, `objective` and `Gram`."""

    name: str
    arithmetic: str
    device: str = "numpy"

    @property
    def dtype(self) -> type[np.floating[Any]]:
        return np.float64 if self.arithmetic == "float64" else np.float32

    def given(self, array: Floats) -> NDArray[np.float64]:
        """An array rounded to the type of the implementation, in float64."""
        return array.astype(self.dtype).astype(np.float64)

    def prune(
        self, method: str, weight: Floats, gram: Floats, pattern: Pattern, **options: Any
    ) -> Pruned:
        function = getattr(self._module, method)
        return self._out(function(self._in(weight), self._in(gram), pattern, **options))

    def prune_problem(
        self,
        problem: Problem,
        method: str = "thanos",
        weight: Floats | None = None,
        gram: Floats | None = None,
        **switches: Any,
    ) -> Pruned:
        """Prune the layer of a problem, or another one with the same options."""
        return self.prune(
            method,
            (problem.weight if weight is None else weight).astype(self.dtype),
            (problem.gram if gram is None else gram).astype(self.dtype),
            problem.pattern,
            block_size=problem.block_size,
            damping=problem.damping,
            **switches,
        )

    def certificate(self, problem: Problem, pruned: Pruned, **options: Any) -> Certificate:
        """The verdict on a result in the arithmetic of the implementation."""
        return certify(
            self.given(problem.weight),
            self.given(problem.gram),
            pruned.weight,
            problem.pattern,
            block_size=problem.block_size,
            damping=problem.damping,
            arithmetic=self.arithmetic,
            **options,
        )

    def refit(self, weight: Floats, gram: Floats, pruned: Pruned, **options: Any) -> Pruned:
        W, G = self._in(weight), self._in(gram)
        return self._out(self._module.refit(W, G, self._pruned(pruned), **options))

    def objective(self, weight: Floats, gram: Floats, pruned: Floats, **options: Any) -> float:
        W, G, pruned_weight = self._in(weight), self._in(gram), self._in(pruned)
        return float(self._module.objective(W, G, pruned_weight, **options))

    def gram(self, columns: int, batches: Sequence[Floats]) -> NDArray[np.float64]:
        if self.device == "numpy":
            streamed: Any = reference.Gram(columns)
        else:
            dtype = getattr(torch, self.arithmetic)
            streamed = thanos_torch.Gram(columns, device=self.device, dtype=dtype)
        for batch in batches:
            streamed.add(self._in(batch))
        return self._array(streamed.matrix())

    @property
    def _module(self) -> Any:
        return reference if self.device == "numpy" else thanos_torch

    def _in(self, array: NDArray[Any]) -> Any:
        return array if self.device == "numpy" else torch.from_numpy(array).to(self.device)

    def _pruned(self, pruned: Pruned) -> Any:
        if self.device == "numpy":
            return pruned
        return thanos_torch.Pruned(
            self._in(pruned.weight.astype(self.dtype)),
            self._in(pruned.mask),
            self._in(pruned.block_losses),
            thanos_torch.Diagnostics(),
        )

    def _out(self, pruned: Any) -> Pruned:
        return Pruned(
            self._array(pruned.weight),
            np.asarray(pruned.mask if self.device == "numpy" else pruned.mask.cpu().numpy()),
            self._array(pruned.block_losses),
        )

    def _array(self, array: Any) -> NDArray[np.float64]:
        return np.asarray(array if self.device == "numpy" else array.cpu().double().numpy())

    def __str__(self) -> str:
        return self.name


DEVICES = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
REFERENCE = Implementation("reference", "float64")
TORCH64 = tuple(Implementation(f"torch-float64-{d}", "float64", d) for d in DEVICES)
TORCH32 = tuple(Implementation(f"torch-float32-{d}", "float32", d) for d in DEVICES)
FLOAT64 = (REFERENCE, *TORCH64)

METHODS = ("thanos", "magnitude", "wanda", "sparsegpt")
MOVING = ("thanos", "sparsegpt")

each_float64 = pytest.mark.parametrize("implementation", FLOAT64, ids=str)
each_torch = pytest.mark.parametrize("implementation", [*TORCH64, *TORCH32], ids=str)
each_implementation = pytest.mark.parametrize("implementation", [*FLOAT64, *TORCH32], ids=str)
each_method = pytest.mark.parametrize("method", METHODS)

# Every ablation of spec section 7 alone, and as many as can be combined.
SWITCHES: list[dict[str, Any]] = [
    {"adaptive": False},
    {"residual": "local"},
    {"update": "sequential"},
    {"metric": "magnitude"},
    {"metric": "obs"},
    {"outlier_score": "wanda"},
    {
        "adaptive": False,
        "residual": "local",
        "update": "sequential",
        "metric": "obs",
        "outlier_score": "wanda",
    },
]
each_switch = pytest.mark.parametrize("switches", SWITCHES, ids=str)
