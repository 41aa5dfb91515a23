"""All of `thanos bench cost`: cell after cell into a work folder, then the model, then the file."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from thanos_torch.models.durable import write_json
from thanos_torch.models.workfolder import WorkFolder, discard_progress, work_folder
from verification.benchmarks.content import content_of
from verification.benchmarks.cost.check import NONE, comparisons, summary
from verification.benchmarks.cost.growth import exponents
from verification.benchmarks.cost.measure import INPUTS, measure
from verification.benchmarks.cost.model import fit, steps_taken
from verification.benchmarks.cost.plan import (
    BASES,
    PROFILES,
    SEMI,
    UNSTRUCTURED,
    WIDER,
    Cell,
    LayerCell,
    key,
)
from verification.benchmarks.cost.predict import LENGTH, WINDOWS, predictions, small_model
from verification.benchmarks.cost.steady import TRIES, at_usual_speed, slowed, unsteadiness
from verification.benchmarks.environment import environment
from verification.benchmarks.studies.records import code_fingerprint

Progress = Callable[[str, int, int], None]
_OPTIONS = ("method", "pattern", "block_size", "refit_steps")
RESULTS = "cost.json"
_HERE = Path(__file__).parent
# What times the cells: with another one, those of before do not belong to those of after.
_STOPWATCH = (
    *(_HERE / name for name in ("measure.py", "decoder.py", "steady.py")),
    *(_HERE.parent / "speed" / name for name in ("measure.py", "stages.py", "whole_model.py")),
    _HERE.parent / "clock.py",
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
