"""All of `thanos bench speed`, and its results as data."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from reference.patterns import Pattern, SemiStructured, Structured, Unstructured, parse_pattern
from thanos_torch import thanos
from verification.benchmarks.clock import clock
from verification.benchmarks.environment import environment
from verification.benchmarks.speed.growth import Growth, measure_growth
from verification.benchmarks.speed.limits import (
    PATTERNS,
    SELECTION_SHARE,
    SHAPES,
    Published,
    memory_limit,
)
from verification.benchmarks.speed.measure import (
    Timing,
    layer,
    time_layer,
    time_published,
)
from verification.benchmarks.speed.stages import stage_seconds
from verification.benchmarks.speed.whole_model import measure_model

Progress = Callable[[str, int, int], None]
LARGE_BLOCK = 1024  # whose memory is looked at as well
QUICK_COLUMNS = 2048  # layers that the quick profile looks at from all sides
STEPS = 4 * 8 + 3 * 2 + 1 + 21 + 1  # of progress: layers, correlated ones, stages, growth, model


def run_speed(quick: bool, device: str, command: str, progress: Progress) -> dict[str, Any]:
    """Measure everything. `quick`: fewer repeats, and every fifth decoder block of the model."""
    start = time.monotonic()
    done = 0

    def tell(note: str) -> None:
        nonlocal done
        progress(note, min(done, STEPS), STEPS)
        done += 1

    repeats = 3 if quick else 5
    layers, published = [], []
    for shape in SHAPES:
        made = layer(shape, "independent", device)
        few = max(2, repeats // 2) if shape[1] > 3000 else repeats
        tell(f"published SparseGPT, {shape[0]} x {shape[1]}")
        yardstick = time_published(shape, few, made)
        published.append({"shape": shape, **asdict(yardstick)})
        for timing in _layers(shape, few, device, made, quick, tell):
            layers.append(timing.as_dict() | _limits(timing, yardstick))
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
    sweeps: dict[str, list[tuple[float, Timing]]] = {}
    for name, value, timing in measure_growth(1 if quick else 3, device):
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
    if device == "cpu":
        results["model"] = measure_model(5 if quick else 1)
    results["minutes"] = (time.monotonic() - start) / 60
    return results


def _layers(
    shape: tuple[int, int],
    repeats: int,
    device: str,
    made: tuple[Tensor, Tensor],
    quick: bool,
    tell: Callable[[str], None],
) -> Iterator[Timing]:
    for method, pattern in _tasks():
        tell(f"{method} {pattern}, {shape[0]} x {shape[1]}")
        yield time_layer(method, pattern, shape, repeats=repeats, device=device, made=made)
    if quick and shape[1] > QUICK_COLUMNS:
        return
    tell(f"B = {LARGE_BLOCK}, {shape[0]} x {shape[1]}")
    yield time_layer("thanos", PATTERNS[0], shape, block_size=LARGE_BLOCK, repeats=1,
                     device=device, made=made)  # fmt: skip
    if shape[1] < 3000:
        for pattern in PATTERNS[:2]:
            tell(f"correlated inputs, {shape[0]} x {shape[1]}")
            yield time_layer("thanos", pattern, shape, inputs="correlated", repeats=repeats,
                             device=device)  # fmt: skip


def _tasks() -> Iterator[tuple[str, Pattern]]:
    for pattern in PATTERNS:
        yield "thanos", pattern
    yield "sparsegpt", Unstructured(0.5)
    yield "sparsegpt", SemiStructured(2, 4)


def _limits(timing: Timing, published: Published) -> dict[str, Any]:
    """The published procedure is timed with independent inputs and B = 128."""
    pattern = parse_pattern(timing.pattern)
    comparable = timing.inputs == "independent" and (
        timing.block_size == 128 or isinstance(pattern, Structured)
    )
    units = published.limit(timing.method, pattern) if comparable else None
    semi = not isinstance(pattern, Unstructured)
    share = timing.units / (published.semi if semi else published.unstructured)
    return {
        "limit": units,
        "share_of_published": share if comparable else None,
        "memory_limit": memory_limit(timing.shape),
    }


def _stages(shape: tuple[int, int]) -> dict[str, Any]:
    """Shares of the time of unstructured Thanos."""
    W, G = layer(shape, "independent")
    thanos(W, G, PATTERNS[0])
    with stage_seconds() as seconds:
        whole = clock(lambda: thanos(W, G, PATTERNS[0]))
    shares = {stage: spent / whole for stage, spent in seconds.items()}
    shares["update"] = 1 - sum(shares.values())
    return {"shape": shape, "seconds": whole, "shares": shares, "limit": SELECTION_SHARE}
