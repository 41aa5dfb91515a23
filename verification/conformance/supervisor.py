"""Runs commands within limits and ends every process that they leave behind.

`python -I -S supervisor.py` is a process between the judge and what it judges. It reads requests
from standard input and answers on standard output, each a line of JSON, and ends when standard
input does. It imports the standard library alone, so that it starts in a few milliseconds.

On Linux it is the subreaper of all processes that descend from it: one whose parent has ended
becomes its child, even in a session of its own. Elsewhere only the process group is ended.
"""

import contextlib
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

KEPT = 2**16  # bytes of printed text that are kept if their number is not limited
DEEPEST = 64  # folders inside of one another
POLL = 0.05  # seconds between two looks at memory, processes and files
SET_CHILD_SUBREAPER, SET_PARENT_DEATH_SIGNAL = 36, 1
PAGE = resource.getpagesize()


def serve() -> None:
    """Answer requests until standard input ends."""
    control(SET_CHILD_SUBREAPER, 1)
    woken, wake = os.pipe2(os.O_NONBLOCK) if hasattr(os, "pipe2") else _pipe()
    signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler, so that the wake-up is written
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    while line := sys.stdin.buffer.readline():
        answer = memoryview(json.dumps(run(json.loads(line), woken)).encode() + b"\n")
        with contextlib.suppress(BrokenPipeError):  # the judge has ended
            while answer:
                answer = answer[os.write(sys.stdout.fileno(), answer) :]


def control(option: int, value: int) -> None:
    """Call prctl; nothing happens where there is none."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _pipe() -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    return ends


def run(request: dict[str, Any], woken: int) -> dict[str, Any]:
    """Run one command; `supervised.Limits` explains the keys of a request.

    Returns its exit status, why it was ended if it was, and what it printed.
    """
    ends = [subprocess.DEVNULL, subprocess.PIPE, subprocess.PIPE]
    ends[: len(request["pipes"])] = request["pipes"]
    stdin, stdout, stderr = ends

    def prepare() -> None:
        control(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if request["written"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (request["written"], request["written"]))

    try:
        process = subprocess.Popen(
            request["command"],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=request["folder"],
            env={**os.environ, **request["environment"]},
            start_new_session=True,
            preexec_fn=prepare,
        )
    except OSError as error:
        return {"status": None, "why": f"it cannot be started: {error}", "out": "", "errors": ""}
    finally:
        for pipe in request["pipes"]:
            os.close(pipe)
    printed = Printed([pipe for pipe in (process.stderr, process.stdout) if pipe], request)
    why = wait(process, printed, request, woken)
    end_all(process)
    printed.drain()
    why = why or printed.too_much() or too_much_written(request)
    errors, out = (*printed.texts(), "", "")[:2]
    return {"status": process.returncode, "why": why, "out": out, "errors": errors}


def wait(
    process: "subprocess.Popen[bytes]", printed: "Printed", request: dict[str, Any], woken: int
) -> str:
    """Wait until a process ends or exceeds a limit; returns the limit or ''."""
    start = time.monotonic()
    looked, pause = start, POLL
    with selectors.DefaultSelector() as selector:
        for descriptor in (sys.stdin.fileno(), woken, *printed.open):
            selector.register(descriptor, selectors.EVENT_READ)
        while process.poll() is None:
            now = time.monotonic()
            left = start + request["seconds"] - now if request["seconds"] else pause
            if left <= 0:
                return f"no end after {request['seconds']:g} seconds"
            for key, _ in selector.select(min(left, pause)):
                if key.fd == sys.stdin.fileno():
                    return "the judge has ended"  # it sends no request before the answer
                if key.fd == woken:
                    os.read(woken, KEPT)
                elif not printed.read(key.fd):
                    selector.unregister(key.fd)
            if printed.too_much():
                return printed.too_much()
            if time.monotonic() - looked > pause:
                begun = time.monotonic()
                if why := too_much_used(request) or too_much_written(request):
                    return why
                looked = time.monotonic()
                pause = max(POLL, 10 * (looked - begun))
    return ""


class Printed:
    """What a command prints: all of it if it is limited, otherwise its end."""

    def __init__(self, pipes: list[Any], request: dict[str, Any]) -> None:
        self._pipes = pipes
        self._limit = request["printed"]
        self._texts = {pipe.fileno(): b"" for pipe in pipes}
        self._total = 0
        self.open = set(self._texts)
        for descriptor in self.open:
            os.set_blocking(descriptor, False)

    def read(self, descriptor: int) -> bool:
        """Read what there is; False at the end."""
        try:
            part = os.read(descriptor, KEPT)
        except BlockingIOError:
            return True
        self._total += len(part)
        self._texts[descriptor] = (self._texts[descriptor] + part)[-(self._limit or KEPT) :]
        if not part:
            self.open.discard(descriptor)
        return bool(part)

    def drain(self) -> None:
        """Read what is left after the end, within the limit."""
        for descriptor in sorted(self.open):
            before = -1
            while before != self._total and not self.too_much():
                before = self._total
                self.read(descriptor)
        for pipe in self._pipes:
            pipe.close()

    def too_much(self) -> str:
        """The limit, if it is exceeded."""
        return too_much_printed(self._total, self._limit)

    def texts(self) -> list[str]:
        """Standard error, and standard output if it is read here."""
        return [text.decode(errors="replace") for text in self._texts.values()]


def too_much_printed(total: int, limit: int | None) -> str:
    """The limit of printed bytes, if it is exceeded."""
    return f"it printed more than {_size(limit)}" if limit and total > limit else ""


def too_much_used(request: dict[str, Any]) -> str:
    """The limit of memory or of processes, if it is exceeded."""
    pids = descendants()
    if len(pids) > request["processes"]:
        return f"it started more than {request['processes']} processes"
    if sum(map(resident, pids)) > request["memory"]:
        return f"it used more than {_size(request['memory'])} of memory"
    return ""


def too_much_written(request: dict[str, Any]) -> str:
    """The limit of the folder's size, number of entries or depth, if it is exceeded."""
    if not request["written"]:
        return ""
    if os.path.islink(request["folder"]):
        return "its folder was replaced"
    size, entries, folders = 0, 0, [(request["folder"], 0)]
    while folders:
        folder, depth = folders.pop()
        if depth > DEEPEST:
            return f"it nested more than {DEEPEST} folders"
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            for entry in os.scandir(folder):
                entries += 1
                if entry.is_dir(follow_symlinks=False):
                    folders.append((entry.path, depth + 1))
                else:
                    # Blocks, as a file with holes takes less room than its length.
                    size += 512 * entry.stat(follow_symlinks=False).st_blocks
                if size > request["written"]:
                    return f"it wrote more than {_size(request['written'])}"
                if entries > request["entries"]:
                    return f"it made more than {request['entries']} files"
    return ""


def _size(count: int) -> str:
    return f"{count / 2**30:g} GiB" if count >= 2**30 else f"{count / 2**20:g} MiB"


def descendants() -> list[int]:
    """All processes that descend from this one; [] where there is no /proc."""
    children: dict[int, list[int]] = {}
    for pid, parent in _parents():
        children.setdefault(parent, []).append(pid)
    found = list(children.get(os.getpid(), ()))
    for pid in found:  # the list grows meanwhile
        found.extend(children.get(pid, ()))
    return found


def _parents() -> Iterator[tuple[int, int]]:
    """(process, its parent) for every process."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                    # The name of the program is in brackets and may hold anything.
                    yield int(name), int(file.read().rpartition(b")")[2].split()[1])


def resident(pid: int) -> int:
    """Bytes of memory that a process uses."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/statm", "rb") as file:
        return int(file.read().split()[1]) * PAGE
    return 0


def end_all(process: "subprocess.Popen[bytes]", seconds: float = 5.0) -> None:
    """End a process and all that it has started, and wait for them."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
    deadline = time.monotonic() + seconds
    while not _reaped() and time.monotonic() < deadline:
        pids = descendants()
        # All are stopped first, so that none starts another while the others are ended.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        time.sleep(0.001)


def _reaped() -> bool:
    """Collect children that have ended; True if no other is left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return False


if __name__ == "__main__":
    serve()
