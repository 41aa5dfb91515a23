"""Where the time goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
