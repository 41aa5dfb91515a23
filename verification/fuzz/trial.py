"""One spoiled input, held against the rules: a value or a ValueError, in time and in memory."""

import faulthandler
import resource
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType

from verification.fuzz.mutations import spoiled
from verification.fuzz.targets import FuzzTarget, targets

LIMIT = 1.0  # seconds for one input
# Seconds for many. Nothing can be raised into a loop in C that never comes back to Python: then the
# process ends itself, and which numbers it had is a finding.
CHUNK_LIMIT = 300.0
MEMORY = 2**29  # bytes that a process may come to need beyond what it has at the start


class HangError(BaseException):
    """Too slow; no Exception, so that no reader catches it."""


@dataclass
class FuzzTally:
    """What came of some inputs."""

    accepted: int = 0
    refused: int = 0
    slowest: float = 0.0
    findings: list[dict[str, object]] = field(default_factory=list)

    def add(self, other: "FuzzTally") -> None:
        """Put another one to this one."""
        self.accepted += other.accepted
        self.refused += other.refused
        self.slowest = max(self.slowest, other.slowest)
        self.findings += other.findings


def made_input(name: str, target: FuzzTarget, seed: int, number: int) -> bytes:
    """Input `number` of a target: always the same one."""
    return spoiled(Random(f"{seed} {name} {number}"), target.seeds)


def run_chunk(job: tuple[str, int, range]) -> tuple[str, FuzzTally, float]:
    """For a process of a pool: target, seed and numbers. Returns what memory it took, in MiB."""
    name, seed, numbers = job
    target = targets()[name]
    before = _peak_memory()
    faulthandler.dump_traceback_later(CHUNK_LIMIT, exit=True)
    try:
        return name, run(name, target, seed, numbers), _peak_memory() - before
    finally:
        faulthandler.cancel_dump_traceback_later()


def run(name: str, target: FuzzTarget, seed: int, numbers: range) -> FuzzTally:
    """Try inputs one after another, in a folder of their own."""
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
    """What is wrong with the reader, "" if nothing."""
    try:
        # Again and again: a destructor, or a reader that catches everything, may swallow the first.
        signal.setitimer(signal.ITIMER_REAL, LIMIT, LIMIT / 20)
        try:
            target.read(content, folder)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except (ValueError, OSError):
        tally.refused += 1
        return ""
    except HangError:
        signal.setitimer(signal.ITIMER_REAL, 0)
        return f"no end after {LIMIT:g} seconds"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:300]
    tally.accepted += 1
    return ""


def _ring(_: int, __: FrameType | None) -> None:
    raise HangError


def _limit_memory(hard: int) -> None:
    """From now on an allocation of more than MEMORY is a MemoryError, which is a finding."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))


def _peak_memory() -> float:
    """The most that this process has used, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
