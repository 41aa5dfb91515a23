"""Where the time of Thanos goes: factor, masks, solve, update."""

import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

# Stage: the functions whose time it is. What is inside a stage counts for that stage alone.
STAGES = {
    "factor": [("thanos_torch.thanos", "inverse_factor"),
               ("thanos_torch.structured", "reversed_cholesky")],
    "masks": [("thanos_torch.thanos", "BlockWalk.choose_mask")],
    "solve": [("thanos_torch.solver", "MaskedSolver.multipliers")],
}  # fmt: skip


@contextmanager
def stage_seconds() -> Iterator[dict[str, float]]:
    """Seconds spent in each of STAGES while inside, on a CPU; the rest of a run is updates."""
    seconds = dict.fromkeys(STAGES, 0.0)
    with ExitStack() as patches:
        for stage, functions in STAGES.items():
            for module, name in functions:
                owner, attribute = _owner(module, name)
                timed = _timed(getattr(owner, attribute), stage, seconds)
                patches.enter_context(mock.patch.object(owner, attribute, timed))
        yield seconds


def _owner(module: str, name: str) -> tuple[Any, str]:
    owner: Any = importlib.import_module(module)
    *path, attribute = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    return owner, attribute


def _timed(function: Callable[..., Any], stage: str, seconds: dict[str, float]) -> Any:
    def run(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            seconds[stage] += time.perf_counter() - start

    return run
