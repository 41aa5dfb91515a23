"""Timing one layer: random layers, repeated calls, product units, stages, and peak memory."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import accumulate
from statistics import mean, median
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from thanos_torch.runtime.clock import Stopwatch
from verification.benchmarks.environment import clock

SEED = 0
# Repeats of a call end once both LEAST and SECONDS are reached, or with MOST of them.
LEAST, SECONDS, MOST = 3, 0.3, 15
SLOW = 5.0  # seconds in all from which two repeats are enough
AGREE = 1.2  # but only if neither takes so many times the other: then one of them was held up


def random_layer(shape: tuple[int, int], inputs: str, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """W (c, b) and G (b, b) for `independent` inputs, or `correlated` ones as real activations."""
    rows, columns = shape
    generator = torch.Generator().manual_seed(SEED)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    X = normal(columns, 2 * columns)
    if inputs == "correlated":  # a few directions that all columns share, and louder columns
        X *= torch.rand(columns, 1, generator=generator).add(0.1)
        X += normal(columns, 8) @ normal(8, 2 * columns)
    W = normal(rows, columns)
    return W.to(device), (X @ X.T).to(device)


def enough(totals: list[float]) -> bool:
    """Whether a call that took `totals` seconds was repeated often enough."""
    agree = len(totals) > 1 and max(totals) <= AGREE * min(totals)
    least = 2 if sum(totals) > SLOW and agree else LEAST
    return len(totals) >= least and (sum(totals) >= SECONDS or len(totals) >= MOST)


def repeated(run: Callable[[], float]) -> dict[str, Any]:
    """Call `run`, which returns its seconds, until that is enough; the record of its times.

    spread  the distance between the fastest and the slowest repeat, relative to the median
    """
    totals: list[float] = []
    while not enough(totals):
        totals.append(run())
    middle = median(totals)
    return {"seconds": middle, "repeats": totals, "spread": (max(totals) - min(totals)) / middle}


def product_units(
    run: Callable[[], Any], G: Tensor, repeats: int, device: str
) -> tuple[float, float]:
    """Medians over `repeats` calls: units of one product of G's size, and seconds."""
    A, B = torch.randn_like(G), torch.randn_like(G)
    clock(lambda: A @ B, device)
    seconds, units = [], []
    for _ in range(repeats):
        # A product is short and the machine's speed drifts: products before and after the call.
        before = product_seconds(A, B, device)
        seconds.append(clock(run, device))
        units.append(seconds[-1] / ((before + product_seconds(A, B, device)) / 2))
    return median(units), median(seconds)


def product_seconds(A: Tensor, B: Tensor, device: str = "cpu") -> float:
    """The mean time of A @ B over a tenth of a second, but at least one and at most 3 products."""
    times = [clock(lambda: A @ B, device)]
    while sum(times) < 0.1 and len(times) < 3:
        times.append(clock(lambda: A @ B, device))
    return mean(times)


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


def mean_steps(layers: list[list[int]]) -> dict[str, float]:
    """Solver steps a block, from the steps of every block of some layers.

    before, last  means over all blocks but the last of each layer, and over the last blocks
    """
    before = [taken for each in layers for taken in each[:-1]]
    last = [each[-1] for each in layers if each]
    return {"before": mean(before or [0.0]), "last": mean(last or [0.0])}


# The functions of a stage, as (module, name). Time in a stage inside another counts for it alone.
Stages = Mapping[str, list[tuple[str, str]]]
_PREPARE = [
    ("thanos_torch.methods.baselines", "prepare"),
    ("thanos_torch.methods.thanos", "prepare"),
    ("thanos_torch.methods.problem", "ScaledLayer.scaled_weight"),
]
_ZEROING: Stages = {
    "prepare": _PREPARE,
    "factor": [("thanos_torch.methods.factor", "reversed_cholesky")],
    "masks": [("thanos_torch.methods.baselines", "_mask")],
}
# By method. The rest of a method's time is the stage "update".
STAGES: dict[str, Stages] = {
    "magnitude": _ZEROING,
    "wanda": _ZEROING,
    "sparsegpt": {
        "prepare": _PREPARE,
        "factor": [("thanos_torch.methods.factor", "inverse_factor")],
        "masks": [
            ("thanos_torch.methods.baselines", "smallest"),
            ("thanos_torch.methods.baselines", "whole_columns"),
        ],
        "solve": [
            ("thanos_torch.methods.baselines", "sequential_update"),
            ("thanos_torch.methods.baselines", "choosing_sequential_update"),
        ],
    },
    "thanos": {
        "prepare": _PREPARE,
        "factor": [
            ("thanos_torch.methods.factor", "inverse_factor"),
            ("thanos_torch.methods.structured", "reversed_cholesky"),
        ],
        "masks": [
            ("thanos_torch.methods.thanos", "MaskRule.choose"),
            ("thanos_torch.methods.structured", "_column_scores"),
            ("thanos_torch.methods.structured", "smallest"),
        ],
        "solve": [
            ("thanos_torch.methods.thanos", "joint_update"),
            ("thanos_torch.methods.structured", "_joint"),
        ],
        "refit": [("thanos_torch.pruning.plan", "refit")],
    },
}
# The stages that `thanos bench speed` reports; all else is its "update".
MAIN_STAGES: Stages = {stage: STAGES["thanos"][stage] for stage in ("factor", "masks", "solve")}


@contextmanager
def stage_seconds(stages: Stages) -> Iterator[dict[str, float]]:
    """Seconds by stage, filled in while inside, on a CPU. Wraps the functions of the stages."""
    watch = Stopwatch("cpu", tuple(stages))
    with ExitStack() as patches:
        for stage, functions in stages.items():
            for module, name in functions:
                owner: Any = importlib.import_module(module)
                *path, attribute = name.split(".")
                for part in path:
                    owner = getattr(owner, part)
                timed = _timed(getattr(owner, attribute), stage, watch)
                patches.enter_context(mock.patch.object(owner, attribute, timed))
        yield watch.seconds


def _timed(function: Callable[..., Any], stage: str, watch: Stopwatch) -> Callable[..., Any]:
    def run(*arguments: Any, **options: Any) -> Any:
        with watch.stage(stage):
            return function(*arguments, **options)

    return run
