"""Whether the machine was equally fast all the time: one product, timed beside every cell."""

from collections.abc import Mapping
from statistics import median
from typing import Any

import torch

from verification.benchmarks.clock import clock

YARDSTICK = 768  # columns and rows of the product
# Other tenants of a machine come and go, and double some times while they are there. A cell is
# measured again where the yardstick took so many times its median, TRIES times in all at most.
SLOWED, TRIES = 1.2, 3
STEADY = 0.3  # the most unsteadiness at which times of one run can be held against each other
_TIMES = ("seconds", "certificate_seconds")


def yardstick() -> float:
    """A fixed piece of work, the best of a few: its changes over a run are the machine's."""
    A, B = torch.ones(YARDSTICK, YARDSTICK), torch.ones(YARDSTICK, YARDSTICK)
    return min(clock(lambda: (A @ B).add_(A)) for _ in range(7))


def slowed(yardsticks: list[float]) -> list[int]:
    """The numbers of the cells that were measured on a slow machine."""
    usual = median(yardsticks)
    return [number for number, each in enumerate(yardsticks) if each > SLOWED * usual]


def unsteadiness(yardsticks: list[float]) -> float:
    """How much slower one and the same work was at the worst tenth of a run than at the best."""
    ordered = sorted(yardsticks)
    tenth = len(ordered) // 10
    return ordered[-1 - tenth] / ordered[tenth] - 1


def at_usual_speed(results: Mapping[str, Any]) -> dict[str, Any]:
    """Results whose times are those that the machine would take at its median speed of the run.

    What is left of other tenants after slow cells were measured again lasts for minutes: longer
    than all cells of a shape, whose times would look like something about the shape.
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
    """By what `at_usual_speed` multiplies the times of a case, for all whose times it changes."""
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
