"""Seconds by stage, and the number of NumPy's threads beside torch's."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache

import torch
from threadpoolctl import ThreadpoolController


class Stopwatch:
    """Seconds by stage. Time in a stage inside another one counts for the inner stage only."""

    def __init__(self, device: torch.device | str, stages: tuple[str, ...]) -> None:
        self.seconds = dict.fromkeys(stages, 0.0)
        self._device = torch.device(device)
        self._inner = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time until the context is left for the stage `name`."""
        outer, self._inner = self._inner, 0.0
        start = self._now()
        try:
            yield
        finally:
            elapsed = self._now() - start
            self.seconds[name] += elapsed - self._inner
            self._inner = outer + elapsed

    def _now(self) -> float:
        if self._device.type == "cuda":  # a GPU works asynchronously
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


# For fewer columns, NumPy's second thread costs more than it saves: between products it waits
# busily, and takes a core from torch.
FEW_COLUMNS = 2048


def blas_threads(columns: int) -> AbstractContextManager[object]:
    """Limit NumPy to one thread while a judge works on a small layer; use all for a large one."""
    if columns >= FEW_COLUMNS:
        return nullcontext()
    limited: AbstractContextManager[object] = _controller().limit(limits=1, user_api="blas")
    return limited


@cache
def _controller() -> ThreadpoolController:
    """The controller, made once: looking for the loaded libraries takes some milliseconds."""
    return ThreadpoolController()
