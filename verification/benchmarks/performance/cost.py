"""`thanos bench cost`: measure the cells of a grid, resuming a killed run, then fit and predict."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import torch

from thanos_torch.pruning.dry_run import meta_model
from thanos_torch.runtime.progress import discard_progress, work_folder
from verification.benchmarks.environment import Progress, content_of, environment
from verification.benchmarks.performance.cases import (
    BLOCK_SIZE,
    PROFILES,
    REFIT_STEPS,
    SEMI,
    STRUCTURED,
    UNSTRUCTURED,
    Cell,
    LayerCell,
    key,
)
from verification.benchmarks.performance.cost_model import (
    BOUNDS,
    Model,
    checked,
    errors,
    fit,
    measurements,
)
from verification.benchmarks.performance.measure import INPUTS, measure
from verification.benchmarks.performance.predict import LENGTH, WINDOWS, predicted_runs, predictions
from verification.benchmarks.quality.records import code_fingerprint
from verification.benchmarks.results import write_results

_OPTIONS = ("method", "pattern", "block_size", "refit_steps")
RESULTS = "cost.json"
_HERE = Path(__file__).parent
# The files that time the cells. If one of them changed, earlier times do not belong to later ones.
_STOPWATCH = (
    *(_HERE / name for name in ("measure.py", "predict.py", "timing.py")),
    _HERE.parent / "environment.py",
)
THANOS = {"method": "thanos", "pattern": UNSTRUCTURED, "block_size": BLOCK_SIZE, "refit_steps": 0}
FEW = 5  # layers on which methods are held against each other
STEADY = 0.3  # times of one run can be compared up to this unsteadiness
NAMES = {
    "pruning": "seconds of pruning a layer",
    "memory": "most bytes while pruning it",
    "gram": "seconds of adding tokens to a Gram matrix",
    "pass": "seconds of a decoder block's forward pass",
}


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
        "calibration": {"windows": WINDOWS, "length": LENGTH},
        "cells": len(cells),
    }
    records: list[tuple[Cell, dict[str, Any]]] = []
    with work_folder(out) as work:
        work.prepare(_fingerprint(cells, origin, settings))
        for number, cell in enumerate(cells):
            progress(key(cell), number, len(cells))
            record = work.entry(number)
            if record is None:
                record = measure(cell)
                work.write_entry(number, record)
            records.append((cell, record))
        progress("fitting", len(cells), len(cells))
    results = {
        "study": "cost",
        "profile": profile,
        "command": command,
        **origin,
        "settings": settings,
        "wall_seconds": sum(record["wall_seconds"] for _, record in records),
        "yardstick_seconds": [record["yardstick_seconds"] for _, record in records],
        **gathered(records),
    }
    results |= conclusions(results)
    write_results(out / RESULTS, results, indent=1)
    discard_progress(out)
    return results


def gathered(records: list[tuple[Cell, dict[str, Any]]]) -> dict[str, Any]:
    """Group the records of cells by kind, and layers by the options that they were pruned with."""
    runs: dict[str, dict[str, Any]] = {}
    others: dict[str, list[dict[str, Any]]] = {"gram": [], "pass": [], "model": []}
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
    """Everything computed from the measurements: the cost model, its errors, predictions, ratios.

    Only Thanos is predicted: methods differ by less than the model errs.
    """
    found = list(measurements(results))
    model = fit(found)
    runs = (each["run"] for each in results["runs"])
    usual = [run for run in runs if run["method"] == "thanos" and run["block_size"] == BLOCK_SIZE]
    said = predictions(model, usual)
    return {
        "model_fitted": model,
        "errors": errors(found, model),
        "errors_of_thanos": errors([each for each in found if "thanos" in each.run], model),
        "unsteadiness": unsteadiness(results["yardstick_seconds"]),
        "ratios": ratios(results),
        "predictions": said,
        "hours": {each["model"].rpartition(" ")[2]: _hours(each) for each in said
                  if each["run"] == THANOS},
        "small_model": [_small_model(model, each) for each in results["model"]],
    }  # fmt: skip


def _hours(prediction: Mapping[str, Any]) -> dict[str, float]:
    """Hours of pruning, and of calibration and pruning."""
    seconds = prediction["seconds"]
    return {"pruning": seconds["pruning"] / 3600, "all": sum(seconds.values()) / 3600}


def _small_model(model: Model, measured: Mapping[str, Any]) -> dict[str, float]:
    """Predicted seconds by stage for the model that was measured as a whole."""
    built = meta_model(measured["model"])
    (one,) = predicted_runs(model, built, [THANOS], measured["tokens"], measured["length"])
    seconds: dict[str, float] = one["seconds"]
    return seconds


def ratios(results: Mapping[str, Any]) -> dict[str, Any]:
    """Thanos over SparseGPT by kind of pattern, and Thanos with a refit over Thanos without.

    Least, median and greatest ratio of seconds and of bytes on the FEW largest layers of both, and
    the most that repeats of one layer and method differ by, as a share of their median.
    """
    layers = {
        json.dumps(each["run"]): {layer["name"]: layer for layer in each["layers"]}
        for each in results["runs"]
    }

    def compare(own: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
        one, other = (layers[json.dumps({**THANOS, **changes})] for changes in (own, base))
        shared = sorted(one.keys() & other.keys(), key=lambda name: (-_weights(one[name]), name))
        both = [side[layer] for layer in shared[:FEW] for side in (one, other)]
        found: dict[str, Any] = {"layers": shared[:FEW], "spread": max(map(spread, both))}
        for name in ("seconds", "peak_memory_bytes"):
            all_ = sorted(one[layer][name] / other[layer][name] for layer in shared[:FEW])
            found[name] = {"least": all_[0], "median": median(all_), "greatest": all_[-1]}
        return found

    kinds = {"unstructured": UNSTRUCTURED, "semi": SEMI, "structured": STRUCTURED}
    against = {
        kind: compare({"pattern": pattern}, {"method": "sparsegpt", "pattern": pattern})
        for kind, pattern in kinds.items()
    }
    return {**against, "refit": compare({"refit_steps": REFIT_STEPS}, {})}


def spread(layer: Mapping[str, Any]) -> float:
    """The slowest repeat less the fastest, as a share of the median."""
    return float((max(layer["repeats"]) - min(layer["repeats"])) / layer["seconds"])


def _weights(layer: Mapping[str, Any]) -> int:
    rows, columns = layer["shape"]
    return int(rows * columns)


def unsteadiness(yardsticks: list[float]) -> float:
    """How much slower the yardstick was at the 90th percentile of a run than at the 10th."""
    ordered = sorted(yardsticks)
    tenth = len(ordered) // 10
    return ordered[-1 - tenth] / ordered[tenth] - 1


def promises(results: Mapping[str, Any]) -> list[tuple[str, bool, str]]:
    """What is promised, whether it holds, the numbers."""
    layers = [layer for each in results["runs"] for layer in each["layers"]]
    others = [each for kind in ("gram", "pass", "model") for each in results[kind]]
    failed = sum(not each["passed"] for each in [*layers, *others])
    shaken = results["unsteadiness"]
    found = [
        ("certificates", not failed, f"{len(layers)} layers; {failed} measurements failed"),
        (
            "steady machine",
            shaken <= STEADY,
            f"the same work took {shaken:.0%} longer at times (limit {STEADY:.0%})",
        ),
    ]
    for quantity, name in NAMES.items():
        middle, most = BOUNDS[quantity]
        how = "no held-out sizes"
        if seen := results["errors"].get(quantity):
            how = (
                f"off by {seen['median']:.0f} % in the median (limit {middle} %), "
                f"{seen['worst']:.0f} % at most (limit {most} %: {seen['where']}), "
                f"{seen['count']} held-out cases"
            )
        found.append((f"model of {name}", checked(results["errors"], quantity), how))
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
