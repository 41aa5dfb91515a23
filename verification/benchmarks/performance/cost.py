"""`thanos bench cost`: measure the cells of a grid, resuming a killed run, then fit and predict."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from thanos_torch.runtime.progress import WorkFolder, discard_progress, work_folder
from verification.benchmarks.environment import Progress, content_of, environment
from verification.benchmarks.performance.cases import (
    BASES,
    PROFILES,
    SEMI,
    UNSTRUCTURED,
    WIDER,
    Cell,
    LayerCell,
    key,
)
from verification.benchmarks.performance.cost_model import (
    NONE,
    comparisons,
    fit,
    steps_taken,
    summary,
)
from verification.benchmarks.performance.growth import exponents
from verification.benchmarks.performance.measure import INPUTS, measure
from verification.benchmarks.performance.predict import LENGTH, WINDOWS, predictions, small_model
from verification.benchmarks.performance.steadiness import (
    TRIES,
    at_usual_speed,
    slowed,
    unsteadiness,
)
from verification.benchmarks.quality.records import code_fingerprint
from verification.benchmarks.results import write_results

_OPTIONS = ("method", "pattern", "block_size", "refit_steps")
RESULTS = "cost.json"
_HERE = Path(__file__).parent
# The files that time the cells. If one of them changed, earlier times do not belong to later ones.
_STOPWATCH = (
    *(_HERE / name for name in ("measure.py", "predict.py", "steadiness.py", "timing.py")),
    _HERE.parent / "environment.py",
)


def run_cost(out: Path, profile: str, command: str, progress: Progress) -> dict[str, Any]:
    """Measure the cells that are not measured yet; write and return `out`/cost.json.

    Finished cells are kept in `out`.partial until then. Raises ValueError if they belong to a run
    with other code, versions, machine or settings.
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
    write_results(out / RESULTS, results, indent=1)
    discard_progress(out)
    return results


def _measure_again(work: WorkFolder, cells: list[Cell], progress: Progress) -> None:
    """Measure cells again that were measured while the machine was slow; keep the better record.

    The yardstick beside a cell decides which record is better, never the times of the cell.
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
    """Group the records of cells by kind, and layers by the options that they were pruned with."""
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
    """Everything computed from the measurements: the cost model, its errors, growth, forecasts."""
    usual = at_usual_speed(results)
    model = fit(usual)
    found = comparisons(usual, model)
    plain = [each["run"] for each in results["runs"] if each["run"]["block_size"] == 128]
    # The other runs do not depend on B.
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
    """What must not change between the cells of one run."""
    return {
        "origin": {name: origin[name] for name in ("commit", "python", "versions", "machine")},
        # A dirty commit does not tell which changes it has.
        "code": {"sources": code_fingerprint(), "stopwatch": content_of(_STOPWATCH)},
        "settings": dict(settings),
        "plan": {"cells": hashlib.sha256("\n".join(map(key, cells)).encode()).hexdigest()},
    }
