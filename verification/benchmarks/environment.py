"""Where numbers come from: commit, versions, machine."""

import hashlib
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from thanos_torch.runtime.files import sha256_of

ROOT = Path(__file__).resolve().parents[2]  # of the checkout, if this is in one
PACKAGES = ("thanos-pruning", "torch", "numpy", "scipy", "transformers")


def environment(device: str = "cpu") -> dict[str, object]:
    """What a results file says about its origin; device  where most of the work was done."""
    return {
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "machine": machine(device),
    }


def commit() -> str:
    """The commit of the checkout; `unknown` outside of one.

    Marked as dirty if files differ from it, but for those that are results themselves. Installed
    into a folder of another project, this is not that one's commit.
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
    """Processor, usable cores and memory in words, and the GPU if that is the device."""
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
    import torch

    return f"{torch.cuda.get_device_name(device)}; {words}"


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def peak_memory() -> int:
    """The most memory that this process has held, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux: getrusage would count what the parent process held as well
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def clock(run: Callable[[], object], device: str = "cpu") -> float:
    """Seconds of one call; on a device, until its work is done."""
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def content_of(files: Iterable[Path]) -> str:
    """Short SHA-256 of files by name and content, whatever their order and folder.

    What is no file, as a folder beside them, does not count.
    """
    digest = hashlib.sha256()
    for file in sorted(file for file in files if file.is_file()):
        digest.update(file.name.encode() + sha256_of(file).encode())
    return digest.hexdigest()[:16]
