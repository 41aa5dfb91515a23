"""Seconds by stage, and the number of NumPy's threads beside torch's."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache

import torch
from threadpoolctl import ThreadpoolController


class Stopwatch:
    """Seconds by stage; the time of a stage inside another counts for the inner one alone."""

    def __init__(self, device: torch.device | str, stages: tuple[str, ...]) -> None:
        self.seconds = dict.fromkeys(stages, 0.0)
        self._device = torch.device(device)
        self._inner = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time until the block is left for the stage `name`."""
        outer, self._inner = self._inner, 0.0
        start = self._now()
        try:
            yield
        finally:
            elapsed = self._now() - start
            self.seconds[name] += elapsed - self._inner
            self._inner = outer + elapsed

    def _now(self) -> float:
        if self._device.type == "cuda":  # work is only queued there until it is waited for
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


# Fewer columns than this, and a second thread saves less than it takes away from torch, by
# waiting busily for the next product long after the last one.
FEW_COLUMNS = 2048


def blas_threads(columns: int) -> AbstractContextManager[object]:
    """Where a judge works in NumPy: one thread for a small layer, all of them for a large one."""
    if columns >= FEW_COLUMNS:
        return nullcontext()
    limited: AbstractContextManager[object] = _controller().limit(limits=1, user_api="blas")
    return limited


@cache
def _controller() -> ThreadpoolController:
    """Made once, when the libraries are loaded: looking for them takes some milliseconds."""
    return ThreadpoolController()
