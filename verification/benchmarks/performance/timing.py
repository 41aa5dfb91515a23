"""The timer of `thanos bench speed` and `thanos bench cost`: one layer, pruned and certified."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from statistics import mean, median
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from thanos_torch import Pruned
from verification import certify
from verification.benchmarks.environment import clock
from verification.benchmarks.performance.cases import LayerCell

SEED = 0
# Repeats of a call end once both LEAST and SECONDS are reached, or with MOST of them.
LEAST, SECONDS, MOST = 3, 0.3, 15
SLOW = 5.0  # seconds in all from which two repeats are enough
AGREE = 1.2  # but only if neither takes so many times the other: then one of them was held up
YARDSTICK = 768  # rows and columns of the product that shows how steady a machine is
Layer = tuple[Tensor, Tensor]  # W (c, b) and G (b, b)


@dataclass(frozen=True)
class LayerTiming:
    """The time of one method on one layer.

    repeats      seconds of each repeat
    units        median of the time over that of the matrix product (b x b) beside it; 0 if the
                 product was not timed
    memory       most bytes of tensors at one time, beyond W and G; the result included
    steps        solver steps of each block
    factor       precision of the factor
    direct_rows  rows that were solved directly
    certified    whether the result passed its certificate, and every repeat returned that result
    """

    repeats: list[float]
    units: float
    memory: int
    steps: list[int]
    factor: str
    direct_rows: int
    certified: bool

    @property
    def seconds(self) -> float:
        """The median."""
        return median(self.repeats)


def time_layer(
    cell: LayerCell, layer: Layer, device: str = "cpu", products: bool = False
) -> LayerTiming:
    """Prune and certify a layer, then time it.

    products  time matrix products of G's size beside every repeat
    """
    W, G = layer
    options = cell.options
    memory, (pruned, kept) = peak_memory(lambda: options.prune(W, G), device)
    verdict: Any = options.verdict(certify, W, G, pruned, kept)
    results: list[Pruned] = []
    repeats: list[float] = []
    units: list[float] = []
    same: list[bool] = []
    A = torch.randn_like(G)
    while not enough(repeats):
        # A product is short and the machine's speed drifts: products before and after the call.
        before = product_seconds(A, device) if products else 0.0
        repeats.append(clock(lambda: results.append(options.prune(W, G)[1]), device))
        if products:
            units.append(repeats[-1] / mean([before, product_seconds(A, device)]))
        same.append(_same(results.pop(), kept))
    return LayerTiming(
        repeats=repeats,
        units=median(units) if units else 0.0,
        memory=memory,
        steps=list(kept.diagnostics.solver_steps),
        factor=kept.diagnostics.factor,
        direct_rows=kept.diagnostics.direct_rows,
        certified=verdict.passed is True and all(same),
    )


def _same(one: Pruned, other: Pruned) -> bool:
    return torch.equal(one.weight, other.weight) and torch.equal(one.mask, other.mask)


@lru_cache(maxsize=1)
def random_layer(shape: tuple[int, int], inputs: str, device: str = "cpu") -> Layer:
    """W (c, b) and G (b, b) for `independent` inputs, or `correlated` ones as real activations.

    The last layer is kept: cells of one shape follow each other.
    """
    rows, columns = shape
    generator = torch.Generator(device).manual_seed(SEED)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, device=device)

    X = normal(columns, 2 * columns)
    if inputs == "correlated":  # a few directions that all columns share, and louder columns
        X *= torch.rand(columns, 1, generator=generator, device=device).add(0.1)
        X += normal(columns, 8) @ normal(8, 2 * columns)
    W = normal(rows, columns)
    return W, X @ X.T


def enough(totals: list[float]) -> bool:
    """Whether a call that took `totals` seconds was repeated often enough."""
    agree = len(totals) > 1 and max(totals) <= AGREE * min(totals)
    least = 2 if sum(totals) > SLOW and agree else LEAST
    return len(totals) >= least and (sum(totals) >= SECONDS or len(totals) >= MOST)


def repeated(run: Callable[[], object], device: str = "cpu") -> list[float]:
    """Seconds of a call, repeated until that is enough."""
    totals: list[float] = []
    while not enough(totals):
        totals.append(clock(run, device))
    return totals


def product_seconds(A: Tensor, device: str = "cpu") -> float:
    """The mean time of A @ A over a tenth of a second, but at least one and at most 3 products."""
    times = [clock(lambda: A @ A, device)]
    while sum(times) < 0.1 and len(times) < 3:
        times.append(clock(lambda: A @ A, device))
    return mean(times)


def yardstick() -> float:
    """Seconds of a fixed product, the best of a few: it changes with the machine's speed only."""
    A = torch.ones(YARDSTICK, YARDSTICK)
    return min(clock(lambda: (A @ A).add_(A)) for _ in range(7))


def peak_memory(run: Callable[[], Any], device: str = "cpu") -> tuple[int, Any]:
    """The most bytes of tensors that a call allocates at one time, and what it returns.

    PyTorch's allocators count them, which repeats to the byte. The memory of the process also
    depends on malloc, libraries and the system, and varies by a tenth of a gigabyte.
    """
    if device != "cpu":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        result = run()
        return torch.cuda.max_memory_allocated() - before, result
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        result = run()
    events = [event for event in recorded.profiler.kineto_results.events()
              if event.name() == "[memory]"]  # fmt: skip
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate((event.nbytes() for event in events), initial=0)), result
