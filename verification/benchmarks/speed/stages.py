"""Where the time of Thanos goes: factor, masks, solve, update."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from thanos_torch.models.stopwatch import Stopwatch

# Stage: the functions whose time it is. What is inside a stage counts for that stage alone.
Stages = Mapping[str, list[tuple[str, str]]]
STAGES: Stages = {
    "factor": [("thanos_torch.thanos", "inverse_factor"),
               ("thanos_torch.structured", "reversed_cholesky")],
    "masks": [("thanos_torch.thanos", "BlockWalk.choose_mask")],
    "solve": [("thanos_torch.solver", "MaskedSolver.multipliers")],
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
