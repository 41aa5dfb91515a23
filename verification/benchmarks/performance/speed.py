"""`thanos bench speed` on a CPU: pruning one layer in units of matrix products, against limits."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import mean
from typing import Any

import torch

import thanos_torch
from reference.patterns import Pattern, SemiStructured, Structured, Unstructured, parse_pattern
from verification.benchmarks.environment import Progress, clock, environment
from verification.benchmarks.performance.cases import (
    BLOCK_SIZE,
    SEMI,
    STRUCTURED,
    UNSTRUCTURED,
    LayerCell,
    Shape,
)
from verification.benchmarks.performance.measure import measure_model
from verification.benchmarks.performance.published import published_sparsegpt
from verification.benchmarks.performance.timing import (
    Layer,
    LayerTiming,
    product_seconds,
    random_layer,
    time_layer,
)

SHAPES: tuple[Shape, ...] = ((1024, 1024), (2048, 2048), (1024, 2816), (4096, 4096))
CASES = (
    *(("thanos", pattern) for pattern in (UNSTRUCTURED, SEMI, "4:8", STRUCTURED)),
    *(("sparsegpt", pattern) for pattern in (UNSTRUCTURED, SEMI)),
)
LARGE_BLOCK = 1024  # a block size whose memory is measured as well
WIDE = 3000  # columns from which on a layer is measured for independent inputs only

# Limits: the most time as shares of the published SparseGPT's, by pattern.
UNSTRUCTURED_SHARE, SEMI_SHARE = 0.6, 0.8
# Pruning all layers of a model, over the two passes of 16 thousand tokens that calibrate it.
MODEL_SHARE = 0.25
MEMORY_FACTOR, MEMORY_EXTRA = 2, 32 * 2**20
# A cliff: a block size or a shape costs so many times more than its operations or weights explain.
CLIFF = 2.0
SAME_LOSS = 0.01  # the published procedure breaks ties and counts slightly differently
PUBLISHED_REPEATS = 3

# Block sizes and ragged shapes around a layer of BASE.
BASE = (1024, 1024)
BLOCK_SIZES = (8, 16, 32, 64, 128, 256, 512, 1024)
RAGGED = ((1000, 1030), (1023, 1025), (777, 1111))


@dataclass(frozen=True)
class PublishedUnits:
    """Product units of the published SparseGPT on this machine, in this run: 50 %, and 2:4."""

    unstructured: float
    semi: float

    def limit(self, method: str, pattern: Pattern) -> float:
        """The most units: a share of these for Thanos, all of them for our own SparseGPT.

        Structured pruning has no published counterpart: it must stay below all other limits.
        """
        if method == "sparsegpt":
            return self.unstructured if isinstance(pattern, Unstructured) else self.semi
        unstructured, semi = UNSTRUCTURED_SHARE * self.unstructured, SEMI_SHARE * self.semi
        if isinstance(pattern, Structured):
            return min(unstructured, semi)
        return unstructured if isinstance(pattern, Unstructured) else semi


def time_published(layer: Layer) -> PublishedUnits:
    """Time the published SparseGPT. Raises RuntimeError if its loss is not SparseGPT's."""
    W, G = layer
    A = torch.randn_like(G)
    found = []
    for pattern in (Unstructured(0.5), SemiStructured(2, 4)):
        theirs = thanos_torch.objective(W, G, published_sparsegpt(W, G, pattern), damping=0.01)
        ours = float(thanos_torch.sparsegpt(W, G, pattern, damping=0.01).block_losses.sum())
        if not abs(theirs - ours) <= SAME_LOSS * ours:
            raise RuntimeError(f"the published procedure loses {theirs}, SparseGPT {ours}")

        def run(pattern: Pattern = pattern) -> Any:
            return published_sparsegpt(W, G, pattern)

        units = []
        for _ in range(PUBLISHED_REPEATS):
            before, spent = product_seconds(A), clock(run)
            units.append(spent / mean([before, product_seconds(A)]))
        found.append(sorted(units)[PUBLISHED_REPEATS // 2])
    return PublishedUnits(*found)


def memory_limit(shape: Shape) -> int:
    """The most bytes beyond the inputs and the result."""
    rows, columns = shape
    return MEMORY_FACTOR * 4 * (rows * columns + columns**2) + MEMORY_EXTRA


def run_speed(quick: bool, command: str, progress: Progress) -> dict[str, Any]:
    """Measure everything; the content of speed.json.

    quick  every fifth decoder block of the model only, and wide layers in CASES only
    """
    start = time.monotonic()
    layers: list[dict[str, Any]] = []
    published: dict[Shape, PublishedUnits] = {}
    cells, around = _cells(quick), _around_base()
    steps = len(cells) + len(around) + 1
    for number, (cell, inputs) in enumerate(cells):
        shape = cell.rows, cell.columns
        progress(f"{cell.method}, {cell.pattern}, {shape[0]} x {shape[1]}", number, steps)
        layer = random_layer(shape, inputs)
        if shape not in published:
            published[shape] = time_published(layer)
        timing = time_layer(cell, layer, products=True)
        layers.append(_record(cell, timing, inputs, published[shape]))
    timings: dict[LayerCell, LayerTiming] = {}
    for number, cell in enumerate(around, len(cells)):
        progress(f"{cell.rows} x {cell.columns}, B = {cell.block_size}", number, steps)
        layer = random_layer((cell.rows, cell.columns), "independent")
        timings[cell] = time_layer(cell, layer)
    results: dict[str, Any] = {
        "command": command,
        "environment": environment(),
        "threads": torch.get_num_threads(),
        "published": [{"shape": shape, **asdict(units)} for shape, units in published.items()],
        "layers": layers,
        "growth": _growth(timings),
    }
    progress("all layers of SmolLM2-135M", steps - 1, steps)
    results["model"] = {**measure_model(5 if quick else 1), "limit": MODEL_SHARE}
    results["minutes"] = (time.monotonic() - start) / 60
    return results


def _cells(quick: bool) -> list[tuple[LayerCell, str]]:
    """The layers that are held against limits, and their inputs, by shape."""
    found = []
    for shape in SHAPES:
        found += [(LayerCell(*shape, method, pattern), "independent") for method, pattern in CASES]
        if not (quick and shape[1] >= WIDE):
            large = LayerCell(*shape, "thanos", UNSTRUCTURED, block_size=LARGE_BLOCK)
            found.append((large, "independent"))
        if shape[1] < WIDE:
            both = (UNSTRUCTURED, SEMI)
            found += [(LayerCell(*shape, "thanos", pattern), "correlated") for pattern in both]
    return found


def _around_base() -> list[LayerCell]:
    """Layers of other block sizes and of ragged shapes."""
    blocks = [LayerCell(*BASE, "thanos", UNSTRUCTURED, block_size=B) for B in BLOCK_SIZES]
    return [*blocks, *(LayerCell(*shape, "thanos", UNSTRUCTURED) for shape in RAGGED)]


def _record(
    cell: LayerCell, timing: LayerTiming, inputs: str, published: PublishedUnits
) -> dict[str, Any]:
    """A timing with its limits; None if the published procedure was not timed on such a case."""
    pattern, shape = parse_pattern(cell.pattern), (cell.rows, cell.columns)
    comparable = inputs == "independent" and (
        cell.block_size == BLOCK_SIZE or isinstance(pattern, Structured)
    )
    usual = published.unstructured if isinstance(pattern, Unstructured) else published.semi
    result = 5 * cell.rows * cell.columns  # bytes: a float32 weight and its mask
    return {
        "method": cell.method,
        "pattern": cell.pattern,
        "shape": shape,
        "block_size": cell.block_size,
        "inputs": inputs,
        "units": timing.units,
        "seconds": timing.seconds,
        "memory": max(0, timing.memory - result),
        "steps": max(timing.steps, default=0),
        "factor": timing.factor,
        "direct_rows": timing.direct_rows,
        "certified": timing.certified,
        "limit": published.limit(cell.method, pattern) if comparable else None,
        "share_of_published": timing.units / usual if comparable else None,
        "memory_limit": memory_limit(shape),
    }


def _growth(timings: Mapping[LayerCell, LayerTiming]) -> dict[str, Any]:
    """Seconds and cliffs of unstructured Thanos over block sizes and ragged shapes."""
    seconds = {cell: timing.seconds for cell, timing in timings.items()}
    at_base = {cell: (cell.rows, cell.columns) == BASE for cell in timings}
    return {
        "cliffs": cliffs(timings),
        "certified": all(timing.certified for timing in timings.values()),
        "sweeps": {
            "B": [[cell.block_size, seconds[cell]] for cell in timings if at_base[cell]],
            "ragged": [
                [cell.rows, cell.columns, seconds[cell]] for cell in timings if not at_base[cell]
            ],
        },
    }


def cliffs(timings: Mapping[LayerCell, LayerTiming]) -> list[str]:
    """Where doubling B changes the time, or a ragged shape costs, CLIFF times what it should.

    A larger block may take more time for its operations. Ragged shapes are compared with BASE by
    their number of weights.
    """
    found = []
    blocks = [cell for cell in timings if (cell.rows, cell.columns) == BASE]
    for small, large in pairwise(blocks):
        one, other = timings[small].seconds, timings[large].seconds
        more = operations(large, timings[large].steps) / operations(small, timings[small].steps)
        ratio = max(one / other, other / one / max(1.0, more))
        if ratio > CLIFF:
            found.append(f"B {small.block_size} to {large.block_size}: {ratio:.1f}")
    base = next(timings[cell] for cell in blocks if cell.block_size == BLOCK_SIZE)
    for cell, timing in timings.items():
        weights = cell.rows * cell.columns / (BASE[0] * BASE[1])
        ratio = timing.seconds / base.seconds / weights
        if (cell.rows, cell.columns) != BASE and ratio > CLIFF:
            found.append(f"{cell.rows} x {cell.columns}: {ratio:.1f}")
    return found


def operations(cell: LayerCell, steps: list[int]) -> float:
    """Floating-point operations that unstructured Thanos cannot do without, in matrix products.

    The factor (Cholesky and the inverse of a triangle), the update of the columns, and within
    blocks two products a solver step, one before the first step, and two for the new weights.
    """
    c, b, B = cell.rows, cell.columns, min(cell.block_size, cell.columns)
    taken = mean(steps) if steps else 0.0
    return 2 * b**3 / 3 + c * b**2 + (4 * taken + 6) * c * b * B


def promises(results: Mapping[str, Any]) -> list[tuple[str, bool, str]]:
    """What is promised, whether it holds, the numbers."""
    timed, growth = results["layers"], results["growth"]
    judged = [each for each in timed if each["limit"] is not None]
    fast = [each for each in judged if each["units"] <= each["limit"]]
    small = [each for each in timed if each["memory"] <= each["memory_limit"]]
    found = [
        ("time", len(fast) == len(judged), f"{len(fast)} of {len(judged)} within their limit"),
        ("memory", len(small) == len(timed), f"{len(small)} of {len(timed)} within their limit"),
        ("no cliffs", not growth["cliffs"], f"found: {'; '.join(growth['cliffs']) or 'none'}"),
    ]
    passed = [each["certified"] for each in timed]
    certified = all(passed) and growth["certified"]
    if model := results.get("model"):
        how = (
            f"pruning takes {model['share']:.2f} of two calibration passes with their Gram "
            f"matrices (limit {model['limit']}); {model['direct_rows']} rows solved directly"
        )
        found.append(("real model", model["share"] <= model["limit"], how))
        certified = certified and model["certified"]
    how = f"{sum(passed)} of {len(passed)} timed layers, all block sizes, the real model"
    return [*found, ("certificates", certified, how)]
