"""All of `thanos bench speed`, and its results as data."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from reference.patterns import Pattern, SemiStructured, Structured, Unstructured, parse_pattern
from verification.benchmarks.environment import environment
from verification.benchmarks.speed.growth import Growth, measure_growth
from verification.benchmarks.speed.limits import PATTERNS, SHAPES, limit, memory_limit
from verification.benchmarks.speed.measure import Timing, layer, time_layer
from verification.benchmarks.speed.selection import selection_share
from verification.benchmarks.speed.whole_model import measure_model

Progress = Callable[[str, int, int], None]
LARGE_BLOCK = 1024  # whose memory is looked at as well
STEPS = 4 * 10 + 1 + 21 + 1  # of progress: layers, selection, growth, model


def run_speed(quick: bool, device: str, command: str, progress: Progress) -> dict[str, Any]:
    """Measure everything. `quick`: fewer repeats, and every fifth decoder block of the model."""
    start = time.monotonic()
    done = 0

    def tell(note: str) -> None:
        nonlocal done
        progress(note, min(done, STEPS), STEPS)
        done += 1

    repeats = 3 if quick else 7
    layers = []
    for timing in _layers(repeats, device, tell):
        limits = _limits(timing)
        layers.append(timing.as_dict() | limits)
    tell("selection")
    results: dict[str, Any] = {
        "command": command,
        "environment": environment(),
        "threads": torch.get_num_threads(),
        "device": device,
        "layers": layers,
        "selection": selection_share(SHAPES[1], device),
    }
    sweeps: dict[str, list[tuple[float, Timing]]] = {}
    for name, value, timing in measure_growth(1 if quick else 5):
        tell(f"growth with {name}")
        sweeps.setdefault(name, []).append((value, timing))
    growth = Growth(sweeps)
    results["growth"] = {
        "exponents": growth.exponents(),
        "cliffs": growth.cliffs(),
        "certified": growth.certified(),
        "sweeps": {
            name: [[value, timing.seconds] for value, timing in timings]
            for name, timings in sweeps.items()
        },
    }
    tell("all layers of SmolLM2-135M")
    results["model"] = measure_model(5 if quick else 1)
    results["minutes"] = (time.monotonic() - start) / 60
    return results


def _layers(repeats: int, device: str, tell: Callable[[str], None]) -> Iterator[Timing]:
    for shape in SHAPES:
        made = layer(shape, "independent", device)
        few = max(2, repeats // 2) if shape[1] > 3000 else repeats
        for method, pattern in _tasks():
            tell(f"{method} {pattern}, {shape[0]} x {shape[1]}")
            yield time_layer(method, pattern, shape, repeats=few, device=device, made=made)
        tell(f"B = {LARGE_BLOCK}, {shape[0]} x {shape[1]}")
        yield time_layer("thanos", PATTERNS[0], shape, block_size=LARGE_BLOCK, repeats=1,
                         device=device, made=made)  # fmt: skip
        if shape[1] < 3000:
            for pattern in PATTERNS[:2]:
                tell(f"correlated inputs, {shape[0]} x {shape[1]}")
                yield time_layer("thanos", pattern, shape, inputs="correlated", repeats=few,
                                 device=device)  # fmt: skip


def _tasks() -> Iterator[tuple[str, Pattern]]:
    for pattern in PATTERNS:
        yield "thanos", pattern
    yield "sparsegpt", Unstructured(0.5)
    yield "sparsegpt", SemiStructured(2, 4)


def _limits(timing: Timing) -> dict[str, Any]:
    """The published numbers are for independent inputs and B = 128."""
    pattern = parse_pattern(timing.pattern)
    comparable = timing.inputs == "independent" and (
        timing.block_size == 128 or isinstance(pattern, Structured)
    )
    units = limit(timing.method, pattern, timing.shape) if comparable else None
    return {"limit": units, "memory_limit": memory_limit(timing.shape)}
