"""One cell, measured: seconds by stage, memory by the allocator, and the certificate of each."""

import time
from collections.abc import Callable
from functools import lru_cache
from statistics import mean, median
from typing import Any

import torch
from torch import Tensor

from thanos_torch import Gram, Pruned
from thanos_torch.models.recipe import LayerOptions
from thanos_torch.models.threads import blas_threads
from verification import certify
from verification.benchmarks.clock import clock
from verification.benchmarks.cost.decoder import decoder_block
from verification.benchmarks.cost.laws import stages_of
from verification.benchmarks.cost.plan import (
    Cell,
    GramCell,
    LayerCell,
    ModelCell,
    PassCell,
    PeakCell,
)
from verification.benchmarks.cost.steady import yardstick
from verification.benchmarks.speed.measure import layer, peak_memory, product_seconds
from verification.benchmarks.speed.stages import Stages, stage_seconds
from verification.benchmarks.speed.whole_model import LENGTH, measure_model

# Repeats go on until both are reached, or there are MOST of them.
LEAST, SECONDS, MOST = 3, 0.3, 15
SLOW = 5.0  # seconds, from which on two repeats do
AGREE = 1.2  # if neither takes so many times the other: then one of them was held up
SLOW_VERDICT = 6.0  # seconds, from which on a certificate is timed no further
INPUTS = "correlated"  # loud shared directions, as in real activations

_ZEROING: Stages = {
    "prepare": [("thanos_torch.zeroing", "prepare")],
    "factor": [("thanos_torch.zeroing", "reversed_cholesky")],
    "masks": [
        ("thanos_torch.zeroing", "smallest"),
        ("thanos_torch.zeroing", "smallest_of_each_row"),
        ("thanos_torch.zeroing", "_groups_or_columns"),
    ],
}
# What is none of these is the stage "update".
STAGES: dict[str, Stages] = {
    "magnitude": _ZEROING,
    "wanda": _ZEROING,
    "sparsegpt": {
        "prepare": [("thanos_torch.sparsegpt", "prepare")],
        "factor": [("thanos_torch.sparsegpt", "inverse_factor")],
        "masks": [
            ("thanos_torch.sparsegpt", "smallest"),
            ("thanos_torch.sparsegpt", "whole_columns"),
        ],
        "solve": [
            ("thanos_torch.sparsegpt", "sequential_update"),
            ("thanos_torch.sparsegpt", "choosing_sequential_update"),
        ],
    },
    "thanos": {
        "prepare": [("thanos_torch.thanos", "prepare")],
        "factor": [
            ("thanos_torch.thanos", "inverse_factor"),
            ("thanos_torch.structured", "reversed_cholesky"),
        ],
        "masks": [
            ("thanos_torch.thanos", "BlockWalk.choose_mask"),
            ("thanos_torch.structured", "_column_scores"),
            ("thanos_torch.structured", "smallest"),
        ],
        "solve": [
            ("thanos_torch.thanos", "joint_update"),
            ("thanos_torch.structured", "_joint"),
        ],
        "refit": [("thanos_torch.models.recipe", "refit")],
    },
}


def measure(cell: Cell) -> dict[str, Any]:
    """The record of a cell, JSON-able; `passed` tells whether its times may be counted."""
    start, before = time.perf_counter(), yardstick()
    if isinstance(cell, LayerCell):
        record = measure_layer(cell)
    elif isinstance(cell, GramCell):
        record = _gram(cell)
    elif isinstance(cell, PassCell):
        record = _pass(cell)
    elif isinstance(cell, PeakCell):
        record = _peak(cell)
    else:
        record = _model(cell)
    slower = max(before, yardstick())
    wall = time.perf_counter() - start
    return {**record, "wall_seconds": wall, "yardstick_seconds": slower}


def measure_layer(cell: LayerCell) -> dict[str, Any]:
    """Prune and certify one layer, then time it: every repeat must return the certified result."""
    W, G = _inputs(cell.rows, cell.columns)
    options = cell.options
    memory, (pruned, kept) = peak_memory(lambda: options.prune(W, G))
    verdict, judging = _judged(options, W, G, pruned, kept)
    totals: list[float] = []
    stages: list[dict[str, float]] = []
    passed = verdict["passed"] is True
    while not _enough(totals):
        spent, again, whole = _staged(options, W, G)
        totals.append(whole)
        stages.append({**spent, "update": whole - sum(spent.values())})
        passed = passed and _same(again, kept)
    taken = kept.diagnostics.solver_steps
    names = stages_of(cell.method, cell.pattern, cell.refit_steps)
    return {
        "name": f"{cell.rows} x {cell.columns}",
        "shape": [cell.rows, cell.columns],
        "held_out": cell.held_out,
        **_times(totals),
        "stages": {name: median(each[name] for each in stages) for name in names},
        "certificate_seconds": median(judging),
        "peak_memory_bytes": memory,
        "passed": passed,
        "checks": {check["name"]: check["value"] for check in verdict["checks"]},
        "steps": _steps([taken]),
        "direct_rows": kept.diagnostics.direct_rows,
        "factor": kept.diagnostics.factor,
    }


@lru_cache(maxsize=1)
def _inputs(rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """W and G of a shape, which the plan's next cells ask for again."""
    return layer((rows, columns), INPUTS)


def _judged(
    options: LayerOptions, W: Tensor, G: Tensor, pruned: Pruned, kept: Pruned
) -> tuple[Any, list[float]]:
    """The verdict as data, and the seconds that it took: a few times, or once where that is slow.

    The first time is not counted, as in pruning: it asks the system for memory, which of a large
    layer takes several times as long as the certificate; those of a model's layers share it.
    """
    with blas_threads(len(G)):
        verdict: Any = options.verdict(certify, W, G, pruned, kept)
        seconds: list[float] = []
        while len(seconds) < (LEAST if sum(seconds) < SLOW_VERDICT else 1):
            seconds.append(clock(lambda: options.verdict(certify, W, G, pruned, kept)))
    return verdict.as_dict(), seconds


def _staged(options: LayerOptions, W: Tensor, G: Tensor) -> tuple[dict[str, float], Pruned, float]:
    """Seconds by stage, the result, seconds in all."""
    kept: list[Pruned] = []
    with stage_seconds(STAGES[options.method]) as spent:
        whole = clock(lambda: kept.append(options.prune(W, G)[1]))
    return spent, kept[0], whole


def _steps(layers: list[list[int]]) -> dict[str, float]:
    """Means over layers: of all blocks before their last, and of their last."""
    before = [taken for each in layers for taken in each[:-1]]
    last = [each[-1] for each in layers if each]
    return {"before": mean(before or [0.0]), "last": mean(last or [0.0])}


def _same(one: Pruned, other: Pruned) -> bool:
    return torch.equal(one.weight, other.weight) and torch.equal(one.mask, other.mask)


def _enough(totals: list[float]) -> bool:
    agree = len(totals) > 1 and max(totals) <= AGREE * min(totals)
    least = 2 if sum(totals) > SLOW and agree else LEAST
    return len(totals) >= least and (sum(totals) >= SECONDS or len(totals) >= MOST)


def _times(totals: list[float]) -> dict[str, Any]:
    """Median, and the distance of the farthest repeats relative to it."""
    middle = median(totals)
    return {
        "seconds": middle,
        "repeats": totals,
        "spread": (max(totals) - min(totals)) / middle,
    }


def _timed(run: Callable[[], Any]) -> dict[str, Any]:
    run()
    totals: list[float] = []
    while not _enough(totals):
        totals.append(clock(run))
    return _times(totals)


def _gram(cell: GramCell) -> dict[str, Any]:
    """One batch added; right if no entry is off by more than rounding in any order explains."""
    X = torch.randn(cell.tokens, cell.columns, generator=torch.Generator().manual_seed(0))
    gram = Gram(cell.columns)
    gram.add(X)
    exact = X.double().T @ X.double()
    norms = exact.diagonal().sqrt()
    bound = cell.tokens * 2.0**-24 * norms * norms[:, None]
    passed = bool(((gram.matrix() - exact).abs() <= bound).all())
    return {"held_out": cell.held_out, **_timed(lambda: gram.add(X)), "passed": passed}


def _pass(cell: PassCell) -> dict[str, Any]:
    """The model's own code runs, nothing of this project: right if every output is finite."""
    block = decoder_block(cell.hidden, cell.intermediate)
    X = torch.randn(1, cell.tokens, cell.hidden, generator=torch.Generator().manual_seed(0))
    passed = bool(block.run(X).isfinite().all())
    facts = {"weights": block.weights, "widths": block.widths}
    return {
        "held_out": cell.held_out,
        **facts,
        **_timed(lambda: block.run(X)),
        "passed": passed,
    }


def _peak(cell: PeakCell) -> dict[str, Any]:
    """Operations a second of float32 products, the best of a few; they are PyTorch's own."""
    A = torch.randn(cell.size, cell.size, generator=torch.Generator().manual_seed(0))
    B = A.T.contiguous()
    product_seconds(A, B, "cpu")
    fastest = min(product_seconds(A, B, "cpu") for _ in range(5))
    return {"operations_per_second": 2 * cell.size**3 / fastest, "passed": True}


def _model(cell: ModelCell) -> dict[str, Any]:
    """See `measure_model`: times are scaled to all blocks."""
    measured = measure_model(cell.every)
    pruned = measured["blocks"] / measured["pruned_blocks"]
    seconds = measured["seconds"]
    return {
        "model": measured["model"],
        "tokens": measured["tokens"],
        "length": LENGTH,
        "steps": _steps([each["solver_steps"] for each in measured["layers"]]),
        "seconds": {
            "calibration": measured["passes_of_all"],
            "gram": seconds["gram"] * pruned,
            "pruning": measured["pruning_of_all"],
            "certificates": seconds["certificates"] * pruned,
        },
        "passed": measured["certified"],
    }
