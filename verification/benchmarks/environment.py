"""The origin of numbers (commit, versions, machine), a clock, and the memory of this process."""

import hashlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from reference.threads import cores, waiting
from thanos_torch.runtime.files import sha256_of

ROOT = Path(__file__).resolve().parents[2]  # of the checkout, if this is in one
Progress = Callable[[str, int, int], None]  # what is measured, how much of it is done, of how much
PACKAGES = ("thanos-pruning", "torch", "numpy", "scipy", "transformers")


def environment(device: str = "cpu") -> dict[str, object]:
    """The origin of a results file's numbers. `device` is where most of the work was done."""
    return {
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "machine": machine(device),
        "waiting": waiting(),
    }


def commit() -> str:
    """The commit of the checkout; `unknown` if this package is not inside its own checkout.

    It ends in "-dirty" if tracked files differ from the commit. Results and pages do not count.
    """
    try:
        root = _git("rev-parse", "--show-toplevel")
        if Path(root).resolve() != ROOT:
            return "unknown"
        head = _git("rev-parse", "--short=12", "HEAD")
        results = (f":(exclude){root}/docs/{folder}" for folder in ("results", "study"))
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", root, *results)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}-dirty" if changed else head


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    folder = Path(__file__).parent
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def machine(device: str = "cpu") -> str:
    """The processor, usable cores and memory in words, and the GPU if it is the device."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    words = f"{name}, {cores()} cores, {memory:.0f} GiB"
    if device == "cpu":
        return words
    return f"{torch.cuda.get_device_name(device)}; {words}"


def peak_memory() -> int:
    """The peak memory of this process, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux: getrusage would include the memory of the parent process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource  # Windows has none

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def clock(run: Callable[[], object], device: str = "cpu") -> float:
    """Seconds of one call. On a GPU they are those between two events around the queued work."""
    if device == "cpu":
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    new: Any = torch.cuda.Event  # its constructor lacks type hints
    first, last = (new(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    first.record()
    run()
    last.record()
    torch.cuda.synchronize()
    return float(first.elapsed_time(last)) / 1000  # of milliseconds


def content_of(files: Iterable[Path]) -> str:
    """A short SHA-256 of the files' names and contents; their order and folders do not matter.

    Folders are skipped.
    """
    digest = hashlib.sha256()
    for file in sorted(file for file in files if file.is_file()):
        digest.update(file.name.encode() + sha256_of(file).encode())
    return digest.hexdigest()[:16]
