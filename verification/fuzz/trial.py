"""Tries damaged inputs: a reader must return or raise ValueError, in time and in memory."""

import resource
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType

from verification.fuzz.targets import FuzzTarget, find

# Seconds for a chunk of inputs: no exception can interrupt an endless loop in C.
CHUNK_LIMIT = 300.0
MEMORY = 2**29  # bytes by which the memory of a process may grow


class HangError(BaseException):
    """A reader is too slow. Not an Exception, so that fewer readers catch it."""


@dataclass
class FuzzTally:
    """Counts and findings of some inputs."""

    accepted: int = 0
    refused: int = 0
    slowest: float = 0.0
    findings: list[dict[str, object]] = field(default_factory=list)

    def add(self, other: "FuzzTally") -> None:
        """Add another tally to this one."""
        self.accepted += other.accepted
        self.refused += other.refused
        self.slowest = max(self.slowest, other.slowest)
        self.findings += other.findings


def made_input(name: str, target: FuzzTarget, seed: int, number: int) -> bytes:
    """Input `number` of a target, the same in every run with this seed."""
    return target.change(Random(f"{seed} {name} {number}"), target.seeds)


def run_chunk(job: tuple[str, int, range]) -> tuple[FuzzTally, float]:
    """Try the inputs of a job (target, seed, numbers); also returns the growth of memory in MiB."""
    name, seed, numbers = job
    target = find(name)
    before = _peak_memory()
    return run(name, target, seed, numbers), _peak_memory() - before


def run(name: str, target: FuzzTarget, seed: int, numbers: range) -> FuzzTally:
    """Try inputs one after another in a new folder."""
    tally = FuzzTally()
    unlimited = resource.getrlimit(resource.RLIMIT_AS)
    _limit_memory(unlimited[1])
    before = signal.signal(signal.SIGALRM, _ring)
    folder = Path(tempfile.mkdtemp(prefix="thanos-fuzz-"))
    try:
        for number in numbers:
            content = made_input(name, target, seed, number)
            start = time.perf_counter()
            found = _try(target, content, folder, tally)
            tally.slowest = max(tally.slowest, time.perf_counter() - start)
            if found:
                tally.findings.append({"target": name, "number": number, "what": found})
    finally:
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, unlimited)
        shutil.rmtree(folder)
    return tally


def _try(target: FuzzTarget, content: bytes, folder: Path, tally: FuzzTally) -> str:
    """The finding about the reader, or ""."""
    try:
        # The signal repeats, since a destructor or a bare `except` may swallow the first one.
        signal.setitimer(signal.ITIMER_REAL, target.limit, target.limit / 20)
        try:
            target.read(content, folder)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except (ValueError, OSError):
        tally.refused += 1
        return ""
    except HangError:
        signal.setitimer(signal.ITIMER_REAL, 0)
        return f"no end after {target.limit:g} seconds"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:300]
    tally.accepted += 1
    return ""


def _ring(_: int, __: FrameType | None) -> None:
    raise HangError


def _limit_memory(hard: int) -> None:
    """Make an allocation beyond MEMORY more than the present size a MemoryError, a finding."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))


def _peak_memory() -> float:
    """The peak memory of this process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
