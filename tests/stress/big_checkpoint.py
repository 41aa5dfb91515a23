"""A checkpoint larger than the memory, pruned: `python -m tests.stress.big_checkpoint`.

The same blocks, few and many: the peak memory of the process must not grow with their number.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.stress.program import THANOS, write_results
from tests.stress.synthetic import llama_config, write_llama
from thanos_torch.checkpoint.shards import INDEX

PATTERN = "2:4"
DEPTHS = (4, 32)  # decoder blocks
SIZES = {"hidden": 4096, "intermediate": 8192, "vocabulary": 4096}
NSAMPLES, SEQLEN = 4, 128
LIMIT = 6 * 2**30  # bytes
FOLDER, RESULT = Path("results/big"), Path("docs/results/big-checkpoint.json")
CGROUPS = Path("/sys/fs/cgroup")
# Peaks may differ by what the allocator keeps, not by what blocks weigh.
GROWTH = 1.1


def main() -> int:
    """Exit status 0: every depth was pruned within the limit, in the same memory."""
    runs: list[dict[str, Any]] = []
    status = 1
    for depth in DEPTHS:
        runs.append(measure(depth))
        peaks = [run["peak_rss_bytes"] for run in runs]
        good = all(run["status"] == 0 and run["certified"] for run in runs)
        status = write_results(
            RESULT,
            "big_checkpoint",
            good and max(peaks) <= GROWTH * min(peaks) and len(runs) == len(DEPTHS),
            limit_bytes=LIMIT,
            growth_allowed=GROWTH,
            runs=runs,
        )
    return status


def measure(depth: int) -> dict[str, Any]:
    """Write a checkpoint of so many blocks, prune it under the limit, and take both away again.

    If this was killed, the next one goes on; the time and the peak are its own then.
    """
    dense, out = FOLDER / f"dense-{depth}", FOLDER / f"pruned-{depth}"
    shutil.rmtree(out, ignore_errors=True)
    if not (dense / INDEX).exists():  # else an earlier process was killed, and its run goes on
        shutil.rmtree(dense, ignore_errors=True)
        write_llama(dense, llama_config(blocks=depth, **SIZES))
    size = json.loads((dense / INDEX).read_text())["metadata"]["total_size"]
    command = [*THANOS, "prune", str(dense), "--out", str(out), "--pattern", PATTERN]
    command += ["--nsamples", str(NSAMPLES), "--seqlen", str(SEQLEN)]
    done = run_limited(command, LIMIT)
    record = json.loads((out / "thanos.json").read_text()) if done["status"] == 0 else {}
    written = sum(file.stat().st_size for file in out.glob("*.safetensors"))
    if done["status"] == 0:
        shutil.rmtree(dense)
        shutil.rmtree(out)
    return {
        "blocks": depth,
        "checkpoint_bytes": size,
        **SIZES,
        "calibration_tokens": NSAMPLES * SEQLEN,
        "certified": record.get("verified", False),
        "layers": len(record.get("layers", [])),
        "written_bytes": written,
        **done,
        "seconds_by_stage": record.get("seconds"),
    }


def run_limited(command: Sequence[str], limit: int) -> dict[str, Any]:
    """Run a command that may use `limit` bytes: by a memory control group, else RLIMIT_DATA.

    Returns how it ended: exit status, peak memory of the process, seconds, what held the limit.
    """
    group = _group(limit)

    def enter() -> None:
        if group:
            (group / "cgroup.procs").write_text(str(os.getpid()))
        else:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    start = time.perf_counter()
    process = subprocess.Popen(command, preexec_fn=enter)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if group:
        group.rmdir()
    return {
        "status": process.returncode,
        "enforced_by": f"memory control group {group}" if group else "RLIMIT_DATA",
        "peak_rss_bytes": usage.ru_maxrss * 1024,
        "seconds": seconds,
    }


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


if __name__ == "__main__":
    sys.exit(main())
