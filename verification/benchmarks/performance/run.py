"""All of `thanos bench cost`: cell after cell into a work folder, then the model, then the file."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reference.patterns import Pattern, SemiStructured, Structured, Unstructured, parse_pattern
from thanos_torch import thanos
from thanos_torch.runtime.files import write_json
from thanos_torch.runtime.progress import WorkFolder, discard_progress, work_folder
from verification.benchmarks.environment import clock, content_of, environment
from verification.benchmarks.performance.cases import (
    BASES,
    PROFILES,
    SELECTION_SHARE,
    SEMI,
    SHAPES,
    SPEED_PATTERNS,
    UNSTRUCTURED,
    WIDER,
    Cell,
    LayerCell,
    Published,
    key,
    memory_limit,
)
from verification.benchmarks.performance.growth import Growth, exponents, measure_growth
from verification.benchmarks.performance.measure import (
    INPUTS,
    Timing,
    layer,
    measure,
    measure_model,
    time_layer,
    time_published,
)
from verification.benchmarks.performance.model import NONE, comparisons, fit, steps_taken, summary
from verification.benchmarks.performance.predict import LENGTH, WINDOWS, predictions, small_model
from verification.benchmarks.performance.stages import (
    TRIES,
    at_usual_speed,
    slowed,
    stage_seconds,
    unsteadiness,
)
from verification.benchmarks.quality.records import code_fingerprint

Progress = Callable[[str, int, int], None]
_OPTIONS = ("method", "pattern", "block_size", "refit_steps")
RESULTS = "cost.json"
_HERE = Path(__file__).parent
# What times the cells: with another one, those of before do not belong to those of after.
_STOPWATCH = (
    *(_HERE / name for name in ("measure.py", "predict.py", "stages.py")),
    _HERE.parent / "environment.py",
)


def run_cost(out: Path, profile: str, command: str, progress: Progress) -> dict[str, Any]:
    """Measure what is not measured yet, write `out`/cost.json, and return it.

    What is done is kept in `out`.partial until then. Raises ValueError if that is of another run:
    other code, versions, machine or settings.
    """
    cells = PROFILES[profile]()
    origin = environment()
    settings: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "inputs": INPUTS,
        "base": BASES[profile],
        "calibration": {"windows": WINDOWS, "length": LENGTH},
        "cells": len(cells),
    }
    with work_folder(out) as work:
        work.prepare(_fingerprint(cells, origin, settings))
        for number, cell in enumerate(cells):
            if work.entry(number) is None:
                progress(key(cell), number, len(cells))
                work.write_entry(number, {**measure(cell), "tries": 1})
        _measure_again(work, cells, progress)
        progress("fitting", len(cells), len(cells))
        records = _records(work, cells)
    results = {
        "study": "cost",
        "profile": profile,
        "command": command,
        **origin,
        "settings": settings,
        "wall_seconds": sum(record["wall_seconds"] for _, record in records),
        "yardstick_seconds": [record["yardstick_seconds"] for _, record in records],
        "tries": [record["tries"] for _, record in records],
        **gathered(records),
    }
    results |= conclusions(results)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / RESULTS, results)
    discard_progress(out)
    return results


def _measure_again(work: WorkFolder, cells: list[Cell], progress: Progress) -> None:
    """Measure again what was measured on a slow machine; the record of the faster one stays.

    That is decided by the yardstick beside the cell, never by the times that the cell is about.
    """
    for tries in range(1, TRIES):
        records = [record for _, record in _records(work, cells)]
        slow = slowed([record["yardstick_seconds"] for record in records])
        for done, number in enumerate(slow):
            before = records[number]
            if before["tries"] > tries:  # done before a stop
                continue
            progress(f"again {key(cells[number])}", done, len(slow))
            again = measure(cells[number])
            best = min(before, again, key=lambda record: record["yardstick_seconds"])
            wall = before["wall_seconds"] + again["wall_seconds"]
            work.write_entry(number, {**best, "wall_seconds": wall, "tries": tries + 1})


def gathered(records: list[tuple[Cell, dict[str, Any]]]) -> dict[str, Any]:
    """The records of cells by kind; layers by the options that they were pruned with."""
    runs: dict[str, dict[str, Any]] = {}
    others: dict[str, list[dict[str, Any]]] = {"gram": [], "pass": [], "peak": [], "model": []}
    for cell, record in records:
        if not isinstance(cell, LayerCell):
            others[cell.kind].append({**asdict(cell), **record})
            continue
        options = {name: getattr(cell, name) for name in _OPTIONS}
        run = runs.setdefault(json.dumps(options), {"run": options, "layers": []})
        run["layers"].append(record)
    for run in runs.values():
        run["verified"] = all(layer["passed"] for layer in run["layers"])
        run["peak_memory_bytes"] = max(layer["peak_memory_bytes"] for layer in run["layers"])
    return {"runs": list(runs.values()), **others}


def conclusions(results: Mapping[str, Any]) -> dict[str, Any]:
    """What follows from the measurements: the model, its errors, growth, predictions."""
    usual = at_usual_speed(results)
    model = fit(usual)
    found = comparisons(usual, model)
    plain = [each["run"] for each in results["runs"] if each["run"]["block_size"] == 128]
    # Of the others, those whose cost depends on B.
    wider = [
        {**run, "block_size": WIDER}
        for run in plain
        if run["method"] == "thanos" and run["pattern"] in (UNSTRUCTURED, SEMI)
        if not run["refit_steps"]
    ]
    real = steps_taken(results["model"][0]) if results["model"] else NONE
    said: dict[str, Any] = {
        "model_fitted": model.as_dict(),
        "errors": summary(found),
        "unsteadiness": unsteadiness(results["yardstick_seconds"]),
        "comparisons": found,
        "growth": exponents(usual),
        "predictions": predictions(model, plain + wider, real),
    }
    thanos = {"method": "thanos", "pattern": UNSTRUCTURED, "block_size": 128, "refit_steps": 0}
    said["small_model"] = [small_model(model, thanos, each) for each in results["model"]]
    return said


def _records(work: WorkFolder, cells: list[Cell]) -> list[tuple[Cell, dict[str, Any]]]:
    found = []
    for number, cell in enumerate(cells):
        record = work.entry(number)
        assert record is not None
        found.append((cell, record))
    return found


def _fingerprint(
    cells: list[Cell], origin: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """What must be the same for measured cells to belong together."""
    return {
        "origin": {name: origin[name] for name in ("commit", "python", "versions", "machine")},
        # A commit with changes says nothing of which they are.
        "code": {"sources": code_fingerprint(), "stopwatch": content_of(_STOPWATCH)},
        "settings": dict(settings),
        "plan": {"cells": hashlib.sha256("\n".join(map(key, cells)).encode()).hexdigest()},
    }


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
    yield time_layer("thanos", SPEED_PATTERNS[0], shape, block_size=LARGE_BLOCK, repeats=1,
                     device=device, made=made)  # fmt: skip
    if shape[1] < 3000:
        for pattern in SPEED_PATTERNS[:2]:
            tell(f"correlated inputs, {shape[0]} x {shape[1]}")
            yield time_layer("thanos", pattern, shape, inputs="correlated", repeats=repeats,
                             device=device)  # fmt: skip


def _tasks() -> Iterator[tuple[str, Pattern]]:
    for pattern in SPEED_PATTERNS:
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
    thanos(W, G, SPEED_PATTERNS[0])
    with stage_seconds() as seconds:
        whole = clock(lambda: thanos(W, G, SPEED_PATTERNS[0]))
    shares = {stage: spent / whole for stage, spent in seconds.items()}
    shares["update"] = 1 - sum(shares.values())
    return {"shape": shape, "seconds": whole, "shares": shares, "limit": SELECTION_SHARE}
