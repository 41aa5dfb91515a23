"""Starts the supervisor, by which programs and functions under test are run within limits."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SUPERVISOR = Path(__file__).with_name("supervisor.py")
GRACE = 10.0  # seconds that the supervisor may take beyond what it grants
POSIX = os.name == "posix"


def _most_memory() -> int:
    """8 GiB or half of the machine's memory: a runaway process ends before the judge does.

    What processes use is limited, not their address space: torch and the JVM reserve far more.
    """
    try:
        return min(2**33, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    except (AttributeError, ValueError, OSError):
        return 2**33


@dataclass(frozen=True)
class Limits:
    """What a command may use; it is ended if it uses more.

    seconds    of time, or None
    written    bytes in one file and in its folder, or None
    entries    files and folders in its folder
    printed    bytes of standard output and error together, or None
    memory     bytes that it and its descendants use together, on Linux
    processes  that descend from it, on Linux
    """

    seconds: float | None = None
    written: int | None = None
    entries: int = 2**12
    printed: int | None = None
    memory: int = field(default_factory=_most_memory)
    processes: int = 512


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    status  its exit status, or minus the number of the signal; None if it did not start
    why     the limit that it exceeded, or ""
    out     what it printed, cut if that was not limited
    errors  the same on standard error
    """

    status: int | None
    why: str
    out: str
    errors: str

    def __str__(self) -> str:
        if self.why or self.status is None:
            return self.why
        if self.status >= 0:
            return f"exit status {self.status}"
        with contextlib.suppress(ValueError):
            return f"ended by {signal.Signals(-self.status).name}"
        return f"ended by signal {-self.status}"


class Supervisor:
    """A supervisor process that runs one command after another.

    pipes  descriptors that are standard input, output, and perhaps error of its only command
    """

    def __init__(self, pipes: Sequence[int] = ()) -> None:
        self._pipes = tuple(pipes)
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(SUPERVISOR)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=self._pipes,
            start_new_session=True,
        )
        # The supervisor ends everything when its input ends, even if this process is killed.
        self.close = weakref.finalize(self, _end, self._process)

    def start(
        self,
        command: Sequence[str],
        folder: Path | None,
        limits: Limits,
        environment: Mapping[str, str],
    ) -> None:
        """Start a command; `result` waits for its end."""
        request = {
            **asdict(limits),
            "command": list(command),
            "folder": None if folder is None else str(folder),
            "environment": dict(environment),
            "pipes": self._pipes,
        }
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # `result` reports it
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()

    def result(self, seconds: float) -> Ended:
        """Wait for the end of the command. If there is none, the supervisor itself is ended."""
        line = b""
        assert self._process.stdout
        deadline = time.monotonic() + seconds + GRACE
        descriptor = self._process.stdout.fileno()
        while not line.endswith(b"\n"):
            part = b""
            if readable(descriptor, deadline):
                part = os.read(descriptor, 2**16)
            if not part:  # it was killed or stopped by what it ran
                self.close()
                return Ended(None, "the process that supervises it was ended", "", "")
            line += part
        return Ended(**json.loads(line))

    @property
    def alive(self) -> bool:
        """Whether it can run another command."""
        return self.close.alive


def readable(descriptor: int, deadline: float) -> bool:
    """Wait until a descriptor can be read; False if that takes too long."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))


def _end(process: "subprocess.Popen[Any]") -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)  # what it runs may have stopped it
    for pipe in (process.stdin, process.stdout):
        assert pipe
        with contextlib.suppress(BrokenPipeError):
            pipe.close()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
