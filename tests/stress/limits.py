"""A command under a memory limit that the system enforces."""

import os
import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Limited:
    """How a command ended.

    enforced_by  what held the limit
    peak_rss     bytes, of the process
    """

    status: int
    seconds: float
    enforced_by: str
    peak_rss: int


def run_limited(command: Sequence[str], limit: int, environment: dict[str, str]) -> Limited:
    """Run a command that may use `limit` bytes: by a memory control group, else RLIMIT_DATA."""
    group = _group(limit)

    def enter() -> None:
        if group:
            (group / "cgroup.procs").write_text(str(os.getpid()))
        else:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, preexec_fn=enter)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if group:
        group.rmdir()
    enforced_by = f"memory control group {group}" if group else "RLIMIT_DATA"
    return Limited(process.returncode, seconds, enforced_by, usage.ru_maxrss * 1024)


def _group(limit: int) -> Path | None:
    """A new control group with that limit, version 1 or 2; None where none can be made."""
    for parent, file in ((CGROUPS / "memory", "memory.limit_in_bytes"), (CGROUPS, "memory.max")):
        group = parent / f"thanos-stress-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / file).write_text(str(limit))
        except OSError:
            group.rmdir()
            continue
        return group
    return None
