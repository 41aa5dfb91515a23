"""Places where a test can end a run: what it loses must be nothing.

`THANOS_FAILPOINT=stage:count:action` acts when `stage` begins for the count-th time in a process;
action is `kill`, which nothing can catch, or `enospc`, a full disk. `THANOS_TRACE=FILE` appends
the name of every stage that begins, so that a harness knows where it killed.
"""

import errno
import os
import signal
from collections import Counter

STAGES = ("calibration", "solve", "shard write", "activations", "journal", "rename", "finish")
_begun: Counter[str] = Counter()


def begin(stage: str) -> None:
    """Called by a run where `stage`, one of STAGES, begins."""
    _begun[stage] += 1
    trace = os.environ.get("THANOS_TRACE")
    if trace:
        with open(trace, "a", encoding="utf-8") as file:
            file.write(f"{stage}\n")
    wanted = os.environ.get("THANOS_FAILPOINT")
    if wanted:
        where, count, action = wanted.split(":")
        if where == stage and int(count) == _begun[stage]:
            _act(action)


def _act(action: str) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "enospc":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    raise ValueError(f"THANOS_FAILPOINT must end in kill or enospc, got {action!r}")
