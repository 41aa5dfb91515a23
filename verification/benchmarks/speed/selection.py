"""The share of the time that choosing the r smallest takes."""

import time
from typing import Any
from unittest import mock

import thanos_torch
from reference.patterns import Unstructured
from thanos_torch.residual import ResidualMask
from verification.benchmarks.speed.measure import clock, layer

DOMINATES = 0.5


def selection_share(shape: tuple[int, int], device: str) -> dict[str, Any]:
    """Unstructured Thanos on one layer: seconds in `ResidualMask.choose` over all seconds."""
    W, G = layer(shape, "independent", device)
    spent = 0.0
    choose = ResidualMask.choose

    def timed(*arguments: Any, **options: Any) -> Any:
        nonlocal spent
        start = time.perf_counter()
        mask = choose(*arguments, **options)
        spent += time.perf_counter() - start
        return mask

    with mock.patch.object(ResidualMask, "choose", timed):
        thanos_torch.thanos(W, G, Unstructured(0.5))
        spent = 0.0
        whole = clock(lambda: thanos_torch.thanos(W, G, Unstructured(0.5)), device)
    return {"shape": shape, "seconds": spent, "share": spent / whole, "limit": DOMINATES}
