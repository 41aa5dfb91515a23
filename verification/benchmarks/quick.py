"""The quick benchmark: every method and pattern on a small real model. `thanos bench --quick`."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from verification.benchmarks.environment import cores, environment
from verification.benchmarks.plan import DENSE, Run, Settings, quick

# Runs at a time. Much of a run keeps only one core busy, so that two runs on half of the cores
# each are faster than one after the other on all of them.
JOBS = 2

Progress = Callable[[Run, str, int, int], None]


def run_quick(settings: Settings, progress: Progress, command: str) -> dict[str, Any]:
    """Measure the dense model, then all runs; returns what results.json holds.

    Raises ChildProcessError with the end of a run's error output if a run breaks off.
    """
    start = time.perf_counter()
    alone = replace(settings, threads=cores())
    settings = replace(settings, threads=max(1, cores() // JOBS))
    with tempfile.TemporaryDirectory(prefix="thanos-bench-") as folder:
        work = Path(folder)
        dense = _run(DENSE, work, alone, progress)  # the others measure with its Gram matrices
        with ThreadPoolExecutor(JOBS) as pool:
            futures = [pool.submit(_run, run, work, settings, progress) for run in quick()]
            try:
                records = [future.result() for future in futures]
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    return {
        "command": command,
        "settings": asdict(settings),
        "jobs": JOBS,
        "environment": environment(),
        "wall_seconds": time.perf_counter() - start,
        "runs": [dense, *records],
    }


def _run(run: Run, work: Path, settings: Settings, progress: Progress) -> dict[str, Any]:
    """One run in a process of its own."""
    out = work / f"{run.key}.json"
    task = json.dumps({"run": asdict(run), "settings": asdict(settings)})
    command = [sys.executable, "-m", "verification.benchmarks.worker", task, str(work), str(out)]
    threads = str(settings.threads)
    limits = {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
    with (work / f"{run.key}.err").open("w+") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=os.environ | limits
        )
        assert process.stdout is not None
        for line in process.stdout:
            note, done, of = json.loads(line)
            progress(run, note, done, of)
        if process.wait():
            errors.seek(0)
            reason = errors.read().strip()[-2000:]
            status = process.returncode
            raise ChildProcessError(f"run {run.key} ended with status {status}: {reason}")
    record: dict[str, Any] = json.loads(out.read_text())
    return record
