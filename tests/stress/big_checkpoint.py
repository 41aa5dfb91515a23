"""A checkpoint larger than the memory, pruned: `python -m tests.stress.big_checkpoint`.

The same blocks, few and many: the peak memory of the process must not grow with their number.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.stress.program import THANOS, write_results
from tests.stress.synthetic import llama_config, write_llama
from thanos_torch.checkpoint.shards import INDEX

PATTERN = "2:4"
CGROUPS = Path("/sys/fs/cgroup")
# Peaks may differ by what the allocator keeps, not by what blocks weigh.
GROWTH = 1.1


def main() -> int:
    """Exit status 0: every depth was pruned within the limit, in the same memory."""
    options = _options()
    runs: list[dict[str, Any]] = []
    status = 1
    for depth in options.blocks:
        runs.append(measure(depth, options))
        peaks = [run["peak_rss_bytes"] for run in runs]
        good = all(run["status"] == 0 and run["certified"] for run in runs)
        status = write_results(
            options.out,
            "big_checkpoint",
            good and max(peaks) <= GROWTH * min(peaks) and len(runs) == len(options.blocks),
            limit_bytes=options.limit * 2**30,
            growth_allowed=GROWTH,
            runs=runs,
        )
    return status


def measure(depth: int, options: argparse.Namespace) -> dict[str, Any]:
    """Write a checkpoint of so many blocks, prune it under the limit, and take both away again.

    If this was killed, the next one goes on; the time and the peak are its own then.
    """
    dense, out = options.folder / f"dense-{depth}", options.folder / f"pruned-{depth}"
    shutil.rmtree(out, ignore_errors=True)
    if not (dense / INDEX).exists():  # else an earlier process was killed, and its run goes on
        shutil.rmtree(dense, ignore_errors=True)
        config = llama_config(
            blocks=depth,
            hidden=options.hidden,
            intermediate=options.intermediate,
            vocabulary=options.vocabulary,
        )
        write_llama(dense, config)
    size = json.loads((dense / INDEX).read_text())["metadata"]["total_size"]
    command = [*THANOS, "prune", str(dense), "--out", str(out), "--pattern", PATTERN]
    command += ["--nsamples", str(options.nsamples), "--seqlen", str(options.seqlen)]
    done = run_limited(command, options.limit * 2**30, dict(os.environ))
    record = json.loads((out / "thanos.json").read_text()) if done.status == 0 else {}
    written = sum(file.stat().st_size for file in out.glob("*.safetensors"))
    if done.status == 0:
        shutil.rmtree(dense)
        shutil.rmtree(out)
    return {
        "blocks": depth,
        "checkpoint_bytes": size,
        "hidden": options.hidden,
        "vocabulary": options.vocabulary,
        "intermediate": options.intermediate,
        "calibration_tokens": options.nsamples * options.seqlen,
        "status": done.status,
        "certified": record.get("verified", False),
        "layers": len(record.get("layers", [])),
        "written_bytes": written,
        "enforced_by": done.enforced_by,
        "peak_rss_bytes": done.peak_rss,
        "seconds": done.seconds,
        "seconds_by_stage": record.get("seconds"),
    }


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


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, nargs="+", default=[4, 32])
    parser.add_argument("--hidden", type=int, default=4096)
    parser.add_argument("--intermediate", type=int, default=8192)
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--nsamples", type=int, default=4)
    parser.add_argument("--seqlen", type=int, default=128)
    parser.add_argument("--limit", type=int, default=6, help="GiB")
    parser.add_argument("--folder", type=Path, default=Path("results/big"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/big-checkpoint.json"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
