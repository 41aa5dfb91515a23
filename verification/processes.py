"""Runs jobs in forked processes within a time limit; one that dies or hangs harms no other."""

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

TIMED_OUT, DIED = "timed out", "death"


@dataclass(frozen=True)
class _Child:
    job: Any
    process: BaseProcess
    connection: Connection
    deadline: float


def run_each(
    work: Callable[[Any], Any], jobs: Iterable[Any], at_a_time: int, limit: float
) -> Iterator[tuple[Any, Any]]:
    """Call `work(job)` in a process for each job; yield (job, result) in order of completion.

    The result is TIMED_OUT after `limit` seconds, and DIED if the process ended without a result.
    """
    waiting = iter(jobs)
    children: list[_Child] = []
    try:
        while True:
            while len(children) < at_a_time and (job := next(waiting, None)) is not None:
                children.append(_start(work, job, limit))
            if not children:
                return
            timeout = max(0.0, min(child.deadline for child in children) - time.monotonic())
            ready = wait([child.connection for child in children], timeout)
            for child in list(children):
                if child.connection in ready or time.monotonic() > child.deadline:
                    children.remove(child)
                    yield child.job, _end(child)
    finally:
        for child in children:
            child.process.kill()


def _start(work: Callable[[Any], Any], job: Any, limit: float) -> _Child:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=lambda: theirs.send(work(job)))
    process.start()
    theirs.close()
    return _Child(job, process, ours, time.monotonic() + limit)


def _end(child: _Child) -> Any:
    try:
        result = child.connection.recv() if child.connection.poll() else TIMED_OUT
    except EOFError:
        result = DIED
    child.process.kill()
    child.process.join()
    child.connection.close()
    return result
