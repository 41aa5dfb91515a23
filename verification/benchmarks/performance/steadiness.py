"""How steady the machine was during a run, and times corrected to its usual speed."""

from collections.abc import Mapping
from statistics import median
from typing import Any

import torch

from verification.benchmarks.environment import clock

YARDSTICK = 768  # rows and columns of the product
# Other tenants of a machine can double some times. A cell is measured again if the yardstick beside
# it took more than SLOWED times its median; a cell is measured at most TRIES times.
SLOWED, TRIES = 1.2, 3
STEADY = 0.3  # times of one run can be compared up to this unsteadiness
_TIMES = ("seconds", "certificate_seconds")


def yardstick() -> float:
    """Seconds of a fixed product, the best of a few: it changes with the machine's speed only."""
    A, B = torch.ones(YARDSTICK, YARDSTICK), torch.ones(YARDSTICK, YARDSTICK)
    return min(clock(lambda: (A @ B).add_(A)) for _ in range(7))


def slowed(yardsticks: list[float]) -> list[int]:
    """The indices of the cells that were measured while the machine was slow."""
    usual = median(yardsticks)
    return [number for number, each in enumerate(yardsticks) if each > SLOWED * usual]


def unsteadiness(yardsticks: list[float]) -> float:
    """How much slower the yardstick was at the 90th percentile of a run than at the 10th."""
    ordered = sorted(yardsticks)
    tenth = len(ordered) // 10
    return ordered[-1 - tenth] / ordered[tenth] - 1


def at_usual_speed(results: Mapping[str, Any]) -> dict[str, Any]:
    """The results with all times scaled to the machine's median speed during the run.

    Interference from other tenants can last longer than all cells of one shape, so it would look
    like an effect of that shape. Each time is scaled by the yardstick measured next to it.
    """
    usual = median(results["yardstick_seconds"])
    runs = [
        {**each, "layers": [_corrected(layer, usual) for layer in each["layers"]]}
        for each in results["runs"]
    ]
    gram, passes = (
        [_corrected(each, usual) for each in results[kind]] for kind in ("gram", "pass")
    )
    return {**results, "runs": runs, "gram": gram, "pass": passes}


def scales(results: Mapping[str, Any]) -> list[float]:
    """The factor of `at_usual_speed` for each layer, Gram matrix and pass, in this order."""
    usual = median(results["yardstick_seconds"])
    layers = [layer for each in results["runs"] for layer in each["layers"]]
    return [_scale(each, usual) for each in (*layers, *results["gram"], *results["pass"])]


def _scale(record: Mapping[str, Any], usual: float) -> float:
    return float(usual / record["yardstick_seconds"])


def _corrected(record: Mapping[str, Any], usual: float) -> dict[str, Any]:
    ratio = _scale(record, usual)
    times = {name: record[name] * ratio for name in _TIMES if name in record}
    if "stages" in record:
        times["stages"] = {name: each * ratio for name, each in record["stages"].items()}
    return {**record, **times}
