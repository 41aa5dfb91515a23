"""Runs mutants, each in a process of its own that is forked with all cases in memory."""

import multiprocessing
import os
import resource
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from verification.mutants.mutant import Mutant
from verification.mutants.package import load, sources
from verification.mutants.trials import Trial

LIMIT = 30.0  # seconds; the reference takes two to three on an idle core
MEMORY = 4 * 2**30  # bytes, so that no mutant exhausts the machine


@dataclass(frozen=True)
class Outcome:
    """The fate of a mutant.

    status  "killed", "survived", "timed out", or "crashed" if the judge itself raised
    trial   the trial in which it ended
    checks  the checks that failed there
    """

    status: str
    trial: str = ""
    checks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Child:
    mutant: Mutant
    process: BaseProcess
    connection: Connection
    deadline: float


def run(
    mutants: Iterable[Mutant], trials: Sequence[Trial], jobs: int = 1, limit: float = LIMIT
) -> Iterator[tuple[Mutant, Outcome]]:
    """Judge each mutant until its first failure, `jobs` at a time; yield in order of completion."""
    waiting = iter(mutants)
    children: list[_Child] = []
    while True:
        while len(children) < jobs and (mutant := next(waiting, None)) is not None:
            children.append(_start(mutant, trials, limit))
        if not children:
            return
        timeout = max(0.0, min(child.deadline for child in children) - time.monotonic())
        ready = wait([child.connection for child in children], timeout)
        for child in list(children):
            if child.connection in ready or time.monotonic() > child.deadline:
                children.remove(child)
                yield child.mutant, _end(child)


def _start(mutant: Mutant, trials: Sequence[Trial], limit: float) -> _Child:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_judge, args=(mutant, trials, theirs))
    process.start()
    theirs.close()
    return _Child(mutant, process, ours, time.monotonic() + limit)


def _end(child: _Child) -> Outcome:
    try:
        outcome = child.connection.recv() if child.connection.poll() else Outcome("timed out")
    except EOFError:  # the process died
        outcome = Outcome("killed", "", ("death",))
    child.process.kill()
    child.process.join()
    child.connection.close()
    assert isinstance(outcome, Outcome)
    return outcome


def _judge(mutant: Mutant, trials: Sequence[Trial], connection: Connection) -> None:
    """Judge a mutant in the child process."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    connection.send(_outcome(mutant, trials))


def _outcome(mutant: Mutant, trials: Sequence[Trial]) -> Outcome:
    try:
        package = load({**sources(), mutant.module: mutant.source})
    except Exception:
        return Outcome("killed", "", ("import",))
    for trial in trials:
        try:
            failed = trial.run(package)
        except Exception as error:
            return Outcome("crashed", trial.name, (f"{type(error).__name__}: {error}",))
        if failed:
            return Outcome("killed", trial.name, failed)
    return Outcome("survived")
