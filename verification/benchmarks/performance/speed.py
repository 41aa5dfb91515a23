"""`thanos bench speed`: pruning one layer in units of matrix products, against limits."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

import thanos_torch
from reference.patterns import Pattern, SemiStructured, Structured, Unstructured, parse_pattern
from verification import certify
from verification.benchmarks.environment import Progress, clock, environment
from verification.benchmarks.performance.cases import SEMI, STRUCTURED, UNSTRUCTURED, LayerCell
from verification.benchmarks.performance.growth import slope
from verification.benchmarks.performance.laws import Work, operations
from verification.benchmarks.performance.measure import measure_model
from verification.benchmarks.performance.published import published_sparsegpt
from verification.benchmarks.performance.timing import (
    MAIN_STAGES,
    mean_steps,
    peak_memory,
    product_units,
    random_layer,
    stage_seconds,
)

Shape = tuple[int, int]
Layer = tuple[Tensor, Tensor]  # W (c, b) and G (b, b)
SHAPES: tuple[Shape, ...] = ((1024, 1024), (2048, 2048), (1024, 2816), (4096, 4096))
CASES = (
    *(("thanos", pattern) for pattern in (UNSTRUCTURED, SEMI, "4:8", STRUCTURED)),
    *(("sparsegpt", pattern) for pattern in (UNSTRUCTURED, SEMI)),
)
LARGE_BLOCK = 1024  # a block size whose memory is measured as well
QUICK_COLUMNS = 2048  # the quick profile measures wider layers in CASES only
STEPS = 4 * 8 + 3 * 2 + 1 + 21 + 1  # of progress: layers, correlated ones, stages, growth, model

# Limits: the most time as shares of the published SparseGPT's, by pattern.
UNSTRUCTURED_SHARE, SEMI_SHARE = 0.6, 0.8
SELECTION_SHARE = 0.5  # choosing masks must not dominate
# Pruning all layers of a model, over the two passes of 16 thousand tokens that calibrate it.
MODEL_SHARE = 0.25
MEMORY_FACTOR, MEMORY_EXTRA = 2, 32 * 2**20
# A cliff: a block size or a shape costs so many times more than its operations or weights explain.
CLIFF = 2.0
SAME_LOSS = 0.01  # the published procedure breaks ties and counts slightly differently

# Sweeps of one variable at a time, around BASE with B = 128 and p = 0.5.
BASE = (1024, 1024)
BLOCK_SIZES = (8, 16, 32, 64, 128, 256, 512, 1024)
SHARES = (0.25, 0.5, 0.75)
ROWS = (512, 1024, 2048, 4096)
COLUMNS = (512, 1024, 2048)
RAGGED = ((1000, 1030), (1023, 1025), (777, 1111))


@dataclass(frozen=True)
class LayerTiming:
    """The time of one method on one layer.

    units       median of its time over that of the matrix product (b x b) measured beside it
    seconds     median
    peak        share of the machine's float32 matrix-product speed that `operations` reach
    memory      most bytes of tensors at one time, beyond the inputs and the result
    operations  floating-point operations that the algorithm cannot do without
    steps       conjugate-gradient steps: the most in a block, and the mean over blocks
    """

    method: str
    pattern: str
    shape: Shape
    block_size: int
    inputs: str
    units: float
    seconds: float
    peak: float
    memory: int
    steps: tuple[int, float]
    operations: float
    factor: str
    direct_rows: int
    certified: bool


def time_layer(
    cell: LayerCell,
    repeats: int,
    device: str = "cpu",
    inputs: str = "independent",
    made: Layer | None = None,
) -> LayerTiming:
    """Prune a layer `repeats` times. `made` is its W and G if the caller has them."""
    shape = cell.rows, cell.columns
    W, G = made or random_layer(shape, inputs, device)
    options = cell.options
    memory, (pruned, kept) = peak_memory(lambda: options.prune(W, G), device)
    verdict = options.verdict(certify, W, G, pruned, kept)
    units, seconds = product_units(lambda: options.prune(W, G), G, repeats, device)
    steps = kept.diagnostics.solver_steps
    taken = mean_steps([steps])
    work = Work(*shape, cell.block_size, cell.pattern, taken["before"], taken["last"])
    needed = operations(cell.method, work)
    return LayerTiming(
        method=cell.method,
        pattern=cell.pattern,
        shape=shape,
        block_size=cell.block_size,
        inputs=inputs,
        units=units,
        seconds=seconds,
        peak=needed / (2 * cell.columns**3) / units,
        memory=max(0, memory - kept.weight.nbytes - kept.mask.nbytes),
        steps=(max(steps, default=0), sum(steps) / max(1, len(steps))),
        operations=needed,
        factor=kept.diagnostics.factor,
        direct_rows=kept.diagnostics.direct_rows,
        certified=verdict is not None and verdict.as_dict()["passed"] is True,
    )


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


def time_published(repeats: int, made: Layer) -> PublishedUnits:
    """Time the published SparseGPT. Raises RuntimeError if its loss is not SparseGPT's."""
    W, G = made
    units = []
    for pattern in (Unstructured(0.5), SemiStructured(2, 4)):
        theirs = thanos_torch.objective(W, G, published_sparsegpt(W, G, pattern), damping=0.01)
        ours = float(thanos_torch.sparsegpt(W, G, pattern, damping=0.01).block_losses.sum())
        if not abs(theirs - ours) <= SAME_LOSS * ours:
            raise RuntimeError(f"the published procedure loses {theirs}, SparseGPT {ours}")

        def run(pattern: Pattern = pattern) -> Any:
            return published_sparsegpt(W, G, pattern)

        units.append(product_units(run, G, repeats, W.device.type)[0])
    return PublishedUnits(*units)


def memory_limit(shape: Shape) -> int:
    """The most bytes beyond the inputs and the result."""
    rows, columns = shape
    return MEMORY_FACTOR * 4 * (rows * columns + columns**2) + MEMORY_EXTRA


def run_speed(quick: bool, device: str, command: str, progress: Progress) -> dict[str, Any]:
    """Measure everything; the content of speed.json.

    quick  fewer repeats, and every fifth decoder block of the model only
    """
    start = time.monotonic()
    done = 0

    def tell(note: str) -> None:
        nonlocal done
        progress(note, min(done, STEPS), STEPS)
        done += 1

    repeats = 3 if quick else 5
    layers, published = [], []
    for shape in SHAPES:
        made = random_layer(shape, "independent", device)
        few = max(2, repeats // 2) if shape[1] > 3000 else repeats
        tell(f"published SparseGPT, {shape[0]} x {shape[1]}")
        units = time_published(few, made)
        published.append({"shape": shape, **asdict(units)})
        for timing in _layers(shape, few, device, made, quick, tell):
            layers.append(asdict(timing) | _limits(timing, units))
    results: dict[str, Any] = {
        "command": command,
        "environment": environment(device),
        "threads": torch.get_num_threads(),
        "device": device,
        "published": published,
        "layers": layers,
    }
    if device == "cpu":
        tell("stages")
        results["stages"] = [_stages(shape) for shape in (SHAPES[1], SHAPES[3])]
    results["growth"] = _growth(1 if quick else 3, device, tell)
    tell("all layers of SmolLM2-135M")
    if device == "cpu":
        results["model"] = {**measure_model(5 if quick else 1), "limit": MODEL_SHARE}
    results["minutes"] = (time.monotonic() - start) / 60
    return results


def _layers(
    shape: Shape,
    repeats: int,
    device: str,
    made: Layer,
    quick: bool,
    tell: Callable[[str], None],
) -> Iterator[LayerTiming]:
    """Time CASES on one layer, Thanos with a large block, and with correlated inputs."""
    for method, pattern in CASES:
        tell(f"{method} {pattern}, {shape[0]} x {shape[1]}")
        yield time_layer(LayerCell(*shape, method, pattern), repeats, device, made=made)
    if quick and shape[1] > QUICK_COLUMNS:
        return
    tell(f"B = {LARGE_BLOCK}, {shape[0]} x {shape[1]}")
    large = LayerCell(*shape, "thanos", UNSTRUCTURED, block_size=LARGE_BLOCK)
    yield time_layer(large, 1, device, made=made)
    if shape[1] < 3000:
        for pattern in (UNSTRUCTURED, SEMI):
            tell(f"correlated inputs, {shape[0]} x {shape[1]}")
            cell = LayerCell(*shape, "thanos", pattern)
            yield time_layer(cell, repeats, device, inputs="correlated")


def _limits(timing: LayerTiming, published: PublishedUnits) -> dict[str, Any]:
    """The limits of a timing; None if the published procedure was not timed on such a case."""
    pattern = parse_pattern(timing.pattern)
    comparable = timing.inputs == "independent" and (
        timing.block_size == 128 or isinstance(pattern, Structured)
    )
    semi = not isinstance(pattern, Unstructured)
    share = timing.units / (published.semi if semi else published.unstructured)
    return {
        "limit": published.limit(timing.method, pattern) if comparable else None,
        "share_of_published": share if comparable else None,
        "memory_limit": memory_limit(timing.shape),
    }


def _stages(shape: Shape) -> dict[str, Any]:
    """The stages of unstructured Thanos as shares of its time."""
    W, G = random_layer(shape, "independent")
    options = LayerCell(*shape, "thanos", UNSTRUCTURED).options
    options.prune(W, G)
    with stage_seconds(MAIN_STAGES) as seconds:
        whole = clock(lambda: options.prune(W, G))
    shares = {stage: spent / whole for stage, spent in seconds.items()}
    shares["update"] = 1 - sum(shares.values())
    return {"shape": shape, "seconds": whole, "shares": shares, "limit": SELECTION_SHARE}


Sweeps = Mapping[str, list[tuple[float, LayerTiming]]]  # (value, timing) by variable


def _growth(repeats: int, device: str, tell: Callable[[str], None]) -> dict[str, Any]:
    """Slopes and cliffs of unstructured Thanos over each variable; `growth` of speed.json."""
    sweeps: dict[str, list[tuple[float, LayerTiming]]] = {}
    made = random_layer(BASE, "independent", device)
    for name, value, cell in _sweep_cells():
        tell(f"growth with {name}")
        at_base = (cell.rows, cell.columns) == BASE
        timing = time_layer(cell, repeats, device, made=made if at_base else None)
        sweeps.setdefault(name, []).append((value, timing))
    seconds = {
        name: [(value, timing.seconds) for value, timing in timings]
        for name, timings in sweeps.items()
    }
    return {
        "exponents": {
            name: slope(*map(list, zip(*points, strict=True)))
            for name, points in seconds.items()
            if name != "ragged"
        },
        "cliffs": cliffs(sweeps),
        "certified": all(each.certified for timings in sweeps.values() for _, each in timings),
        "sweeps": {name: [list(point) for point in points] for name, points in seconds.items()},
    }


def _sweep_cells() -> Iterator[tuple[str, float, LayerCell]]:
    """The variable, its value, and the layer. The variable "ragged" is a shape's number."""
    for B in BLOCK_SIZES:
        yield "B", B, LayerCell(*BASE, "thanos", UNSTRUCTURED, block_size=B)
    for p in SHARES:
        yield "p", p, LayerCell(*BASE, "thanos", f"unstructured:{p}")
    for c in ROWS:
        yield "c", c, LayerCell(c, BASE[1], "thanos", UNSTRUCTURED)
    for b in COLUMNS:
        yield "b", b, LayerCell(BASE[0], b, "thanos", UNSTRUCTURED)
    for number, shape in enumerate(RAGGED):
        yield "ragged", number, LayerCell(*shape, "thanos", UNSTRUCTURED)


def cliffs(sweeps: Sweeps) -> list[str]:
    """Where doubling B changes the time, or a ragged shape costs, CLIFF times what it should.

    A larger block may take more time for its operations. Ragged shapes are compared with BASE by
    their number of weights.
    """
    found = []
    for (small, one), (large, other) in pairwise(sweeps["B"]):
        more = max(1.0, other.operations / one.operations)
        ratio = max(one.seconds / other.seconds, other.seconds / one.seconds / more)
        if ratio > CLIFF:
            found.append(f"B {small:.0f} to {large:.0f}: {ratio:.1f}")
    base = next(timing for value, timing in sweeps["B"] if value == 128)
    for _, timing in sweeps["ragged"]:
        weights = timing.shape[0] * timing.shape[1] / (BASE[0] * BASE[1])
        ratio = timing.seconds / base.seconds / weights
        if ratio > CLIFF:
            found.append(f"{timing.shape[0]} x {timing.shape[1]}: {ratio:.1f}")
    return found
