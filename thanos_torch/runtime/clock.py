"""Seconds by stage, on a CPU or a GPU."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class Stopwatch:
    """Seconds by stage. Time in a stage inside another one counts for the inner stage only.

    A GPU works asynchronously. There the moments are events in its own queue, and nothing waits
    for it until somebody reads the seconds.
    """

    def __init__(self, device: torch.device | str, stages: tuple[str, ...]) -> None:
        self._seconds = dict.fromkeys(stages, 0.0)
        self._device = torch.device(device)
        self._open: list[Span] = []
        self._since: Any = None  # when the stage at work was entered, or was gone on with
        self._unread: list[tuple[Span, Any, Any]] = []

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by stage, always in the same dict. Reading them waits for a GPU."""
        if self._unread and self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        for span, start, end in self._unread:
            elapsed = end - start if isinstance(end, float) else start.elapsed_time(end) / 1000
            span.own_seconds += elapsed
            self._seconds[span.name] += elapsed
        self._unread.clear()
        return self._seconds

    @contextmanager
    def stage(self, name: str) -> Iterator["Span"]:
        """Count the time until the context is left for the stage `name`."""
        span = Span(self, name)
        self._turn()
        self._open.append(span)
        try:
            yield span
        finally:
            self._turn()
            self._open.pop()

    def _turn(self) -> None:
        """Count the time since the last turn for the stage that is at work."""
        now = self._now()
        if self._open:
            self._unread.append((self._open[-1], self._since, now))
        self._since = now

    def _now(self) -> Any:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event


class Span:
    """One stay in a stage; `seconds` leave out the stages inside of it."""

    def __init__(self, watch: Stopwatch, name: str) -> None:
        self.name, self.own_seconds, self._watch = name, 0.0, watch

    @property
    def seconds(self) -> float:
        """Seconds in the stage. Reading them waits for a GPU."""
        _ = self._watch.seconds
        return self.own_seconds
