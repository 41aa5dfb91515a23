"""Where the time of Thanos goes: factor, masks, solve, update."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any
from unittest import mock

import torch

from thanos_torch.runtime.clock import Stopwatch
from verification.benchmarks.environment import clock

# Stage: the functions whose time it is. What is inside a stage counts for that stage alone.
Stages = Mapping[str, list[tuple[str, str]]]
STAGES: Stages = {
    "factor": [("thanos_torch.methods.factor", "inverse_factor"),
               ("thanos_torch.methods.structured", "reversed_cholesky")],
    "masks": [("thanos_torch.methods.thanos", "MaskRule.choose")],
    "solve": [("thanos_torch.methods.solver", "MaskedSolver.multipliers")],
}  # fmt: skip


@contextmanager
def stage_seconds(stages: Stages = STAGES) -> Iterator[dict[str, float]]:
    """Seconds spent in each of `stages` while inside, on a CPU; the rest of a run is updates."""
    watch = Stopwatch("cpu", tuple(stages))
    with ExitStack() as patches:
        for stage, functions in stages.items():
            for module, name in functions:
                owner, attribute = _owner(module, name)
                timed = _timed(getattr(owner, attribute), stage, watch)
                patches.enter_context(mock.patch.object(owner, attribute, timed))
        yield watch.seconds


def _owner(module: str, name: str) -> tuple[Any, str]:
    owner: Any = importlib.import_module(module)
    *path, attribute = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    return owner, attribute


def _timed(function: Callable[..., Any], stage: str, watch: Stopwatch) -> Any:
    def run(*arguments: Any, **options: Any) -> Any:
        with watch.stage(stage):
            return function(*arguments, **options)

    return run


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
