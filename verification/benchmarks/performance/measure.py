"""The measurement of each cell of the cost benchmark: a layer, a Gram matrix, a pass, a model."""

import time
from functools import lru_cache
from statistics import median
from typing import Any

import torch
from torch import Tensor

from reference.patterns import Unstructured
from thanos_torch import Gram, Pruned
from thanos_torch.models import (
    DEFAULT_DATASET,
    DEFAULT_MODEL,
    calibration_windows,
    load_model,
    prune_model,
)
from thanos_torch.pruning.plan import LayerOptions
from thanos_torch.runtime.clock import blas_threads
from verification import certify
from verification.benchmarks.environment import clock
from verification.benchmarks.performance.cases import (
    Cell,
    GramCell,
    LayerCell,
    ModelCell,
    PassCell,
    PeakCell,
)
from verification.benchmarks.performance.laws import stages_of
from verification.benchmarks.performance.predict import decoder_block
from verification.benchmarks.performance.steadiness import yardstick
from verification.benchmarks.performance.timing import (
    LEAST,
    MAIN_STAGES,
    STAGES,
    mean_steps,
    peak_memory,
    product_seconds,
    random_layer,
    repeated,
    stage_seconds,
)

INPUTS = "correlated"  # of layers: a few directions that all columns share, as in real activations
SLOW_VERDICT = 6.0  # seconds from which on a certificate is not timed again
WINDOWS, LENGTH = 16, 1024  # calibration of a whole model: 16 thousand tokens


def measure(cell: Cell) -> dict[str, Any]:
    """The record of a cell, for JSON. Its times count only if `passed` is true."""
    start, before = time.perf_counter(), yardstick()
    if isinstance(cell, LayerCell):
        record = _layer(cell)
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


def _layer(cell: LayerCell) -> dict[str, Any]:
    """Prune and certify one layer, then time it: every repeat must return the certified result."""
    W, G = _inputs(cell.rows, cell.columns)
    options = cell.options
    memory, (pruned, kept) = peak_memory(lambda: options.prune(W, G))
    verdict, judging = _judged(options, W, G, pruned, kept)
    stages: list[dict[str, float]] = []
    same: list[bool] = []

    def prune() -> float:
        results: list[Pruned] = []
        with stage_seconds(STAGES[options.method]) as spent:
            whole = clock(lambda: results.append(options.prune(W, G)[1]))
        stages.append({**spent, "update": whole - sum(spent.values())})
        same.append(_same(results[0], kept))
        return whole

    times = repeated(prune)
    names = stages_of(cell.method, cell.pattern, cell.refit_steps)
    return {
        "name": f"{cell.rows} x {cell.columns}",
        "shape": [cell.rows, cell.columns],
        "held_out": cell.held_out,
        **times,
        "stages": {name: median(each[name] for each in stages) for name in names},
        "certificate_seconds": median(judging),
        "peak_memory_bytes": memory,
        "passed": verdict["passed"] is True and all(same),
        "checks": {check["name"]: check["value"] for check in verdict["checks"]},
        "steps": mean_steps([kept.diagnostics.solver_steps]),
        "direct_rows": kept.diagnostics.direct_rows,
        "factor": kept.diagnostics.factor,
    }


@lru_cache(maxsize=1)
def _inputs(rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """W and G of a shape. The next cells of the grid use the same ones."""
    return random_layer((rows, columns), INPUTS)


def _judged(
    options: LayerOptions, W: Tensor, G: Tensor, pruned: Pruned, kept: Pruned
) -> tuple[Any, list[float]]:
    """The certificate as data, and its seconds: LEAST repeats, or one if it is slow.

    The first certificate is not timed, as in pruning. It asks the system for memory, which takes
    several times as long as a large layer's certificate; the layers of a model share that memory.
    """
    with blas_threads(len(G)):
        verdict: Any = options.verdict(certify, W, G, pruned, kept)
        seconds: list[float] = []
        while len(seconds) < (LEAST if sum(seconds) < SLOW_VERDICT else 1):
            seconds.append(clock(lambda: options.verdict(certify, W, G, pruned, kept)))
    return verdict.as_dict(), seconds


def _same(one: Pruned, other: Pruned) -> bool:
    return torch.equal(one.weight, other.weight) and torch.equal(one.mask, other.mask)


def _normal(*size: int) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(0))


def _gram(cell: GramCell) -> dict[str, Any]:
    """Add one batch to a Gram matrix. Passes if every entry is right up to rounding of sums."""
    X = _normal(cell.tokens, cell.columns)
    gram = Gram(cell.columns)
    gram.add(X)
    exact = X.double().T @ X.double()
    norms = exact.diagonal().sqrt()
    bound = cell.tokens * 2.0**-24 * norms * norms[:, None]
    passed = bool(((gram.matrix() - exact).abs() <= bound).all())
    gram.add(X)  # warm-up
    times = repeated(lambda: clock(lambda: gram.add(X)))
    return {"held_out": cell.held_out, **times, "passed": passed}


def _pass(cell: PassCell) -> dict[str, Any]:
    """Run a decoder block of `transformers`. Passes if every output is finite."""
    block = decoder_block(cell.hidden, cell.intermediate)
    X = _normal(1, cell.tokens, cell.hidden)
    passed = bool(block.run(X).isfinite().all())
    return {
        "held_out": cell.held_out,
        "weights": block.weights,
        "widths": block.widths,
        **repeated(lambda: clock(lambda: block.run(X))),
        "passed": passed,
    }


def _peak(cell: PeakCell) -> dict[str, Any]:
    """Float32 operations a second in PyTorch's matrix product, the best of a few."""
    A = _normal(cell.size, cell.size)
    B = A.T.contiguous()
    product_seconds(A, B)
    fastest = min(product_seconds(A, B) for _ in range(5))
    return {"operations_per_second": 2 * cell.size**3 / fastest, "passed": True}


def _model(cell: ModelCell) -> dict[str, Any]:
    """Prune a whole model; see `measure_model`. Times are scaled to all decoder blocks."""
    found = measure_model(cell.every)
    pruned = found["blocks"] / found["pruned_blocks"]
    seconds = found["seconds"]
    return {
        "model": found["model"],
        "tokens": found["tokens"],
        "length": LENGTH,
        "steps": mean_steps([each["solver_steps"] for each in found["layers"]]),
        "seconds": {
            "calibration": found["passes_of_all"],
            "gram": seconds["gram"] * pruned,
            "pruning": found["pruning_of_all"],
            "certificates": seconds["certificates"] * pruned,
        },
        "passed": found["certified"],
    }


def measure_model(every: int) -> dict[str, Any]:
    """Prune every `every`-th decoder block of SmolLM2-135M with Thanos, unstructured 50 %.

    Times are scaled to the whole model as if its blocks were alike. Calibration passes a pruned
    block twice and a dense one once: its time is scaled to two passes of every block. Gram
    matrices count as calibration, because passes have no other purpose.
    """
    loaded = load_model(DEFAULT_MODEL)
    windows = calibration_windows(
        loaded.tokenizer, DEFAULT_DATASET, nsamples=WINDOWS, seqlen=LENGTH, seed=0
    ).ids
    with stage_seconds(MAIN_STAGES) as stages:
        report = prune_model(
            loaded.model,
            windows,
            Unstructured(0.5),
            judge=certify,
            only=lambda block: block % every == 0,
        )
    blocks = loaded.model.config.num_hidden_layers
    pruned = len(range(0, blocks, every))
    passes = report.seconds["calibration"] * 2 * blocks / (blocks + pruned)
    calibration = passes + report.seconds["gram"] * blocks / pruned
    pruning = report.seconds["pruning"] * blocks / pruned
    layers: list[dict[str, Any]] = [
        {
            "name": each.name,
            "shape": each.shape,
            "seconds": each.seconds,
            "certified": each.verified,
            **each.diagnostics,
        }
        for each in report.layers
        if not each.left_dense
    ]
    return {
        "model": DEFAULT_MODEL,
        "dataset": DEFAULT_DATASET,
        "origin": loaded.origin,
        "tokens": WINDOWS * LENGTH,
        "threads": torch.get_num_threads(),
        "blocks": blocks,
        "pruned_blocks": pruned,
        "seconds": dict(report.seconds),
        "stages": {**stages, "update": report.seconds["pruning"] - sum(stages.values())},
        "passes_of_all": passes,
        "calibration_of_all": calibration,
        "pruning_of_all": pruning,
        "share": pruning / calibration,
        "certified": all(each["certified"] for each in layers),
        "most_steps": max(max(each["solver_steps"]) for each in layers),
        "direct_rows": sum(each["direct_rows"] for each in layers),
        "layers": layers,
    }
