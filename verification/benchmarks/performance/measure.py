"""The measurement of each cell of the cost benchmark: a layer, a Gram matrix, a pass, a model."""

import time
from statistics import median
from typing import Any

import torch
from torch import Tensor

from reference.patterns import Unstructured
from thanos_torch import Gram
from thanos_torch.models import (
    DEFAULT_DATASET,
    DEFAULT_MODEL,
    calibration_windows,
    load_model,
    prune_model,
)
from verification import certify
from verification.benchmarks.performance.cases import Cell, GramCell, LayerCell, PassCell
from verification.benchmarks.performance.predict import decoder_block
from verification.benchmarks.performance.timing import (
    random_layer,
    repeated,
    time_layer,
    yardstick,
)

INPUTS = "correlated"  # of layers: a few directions that all columns share, as in real activations
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
    else:
        record = _model(cell.every)
    slower = max(before, yardstick())
    wall = time.perf_counter() - start
    return {**record, "wall_seconds": wall, "yardstick_seconds": slower}


def _layer(cell: LayerCell) -> dict[str, Any]:
    timing = time_layer(cell, random_layer((cell.rows, cell.columns), INPUTS))
    return {
        "name": f"{cell.rows} x {cell.columns}",
        "shape": [cell.rows, cell.columns],
        "held_out": cell.held_out,
        "seconds": timing.seconds,
        "repeats": timing.repeats,
        "peak_memory_bytes": timing.memory,
        "passed": timing.certified,
        "direct_rows": timing.direct_rows,
        "factor": timing.factor,
    }


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
    repeats = repeated(lambda: gram.add(X))
    return {"seconds": median(repeats), "repeats": repeats, "passed": passed}


def _pass(cell: PassCell) -> dict[str, Any]:
    """Run a decoder block of `transformers`. Passes if every output is finite."""
    block = decoder_block(cell.hidden, cell.intermediate)
    X = _normal(1, cell.tokens, cell.hidden)
    passed = bool(block.run(X).isfinite().all())
    repeats = repeated(lambda: block.run(X))
    times = {"seconds": median(repeats), "repeats": repeats}
    return {"weights": block.weights, **times, "passed": passed}


def _model(every: int) -> dict[str, Any]:
    """Prune a whole model; see `measure_model`. Times are scaled to all decoder blocks."""
    found = measure_model(every)
    return {
        "model": found["model"],
        "tokens": found["tokens"],
        "length": LENGTH,
        "seconds": {
            "calibration": found["passes_of_all"],
            "gram": found["seconds"]["gram"] * found["blocks"] / found["pruned_blocks"],
            "pruning": found["pruning_of_all"],
        },
        "passed": found["certified"],
    }


def measure_model(
    every: int, device: str = "cpu", windows: int = WINDOWS, length: int = LENGTH
) -> dict[str, Any]:
    """Prune every `every`-th decoder block of SmolLM2-135M with Thanos, unstructured 50 %.

    Times are scaled to the whole model as if its blocks were alike. Calibration passes a pruned
    block twice and a dense one once: its time is scaled to two passes of every block. Gram
    matrices count as calibration, because passes have no other purpose.
    """
    loaded = load_model(DEFAULT_MODEL)
    text = calibration_windows(
        loaded.tokenizer, DEFAULT_DATASET, nsamples=windows, seqlen=length, seed=0
    )
    report = prune_model(
        loaded.model,
        text.ids,
        Unstructured(0.5),
        judge=certify,
        device=device,
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
        "tokens": windows * length,
        "threads": torch.get_num_threads(),
        "blocks": blocks,
        "pruned_blocks": pruned,
        "seconds": dict(report.seconds),
        "passes_of_all": passes,
        "calibration_of_all": calibration,
        "pruning_of_all": pruning,
        "share": pruning / calibration,
        "certified": all(each["certified"] for each in layers),
        "most_steps": max(max(each["solver_steps"]) for each in layers),
        "direct_rows": sum(each["direct_rows"] for each in layers),
        "layers": layers,
    }
