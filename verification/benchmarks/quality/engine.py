"""Runs a study: each run in a process of its own, several at a time; a stopped study resumes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from thanos_torch.runtime.progress import alone_in
from verification.benchmarks.environment import cores, environment
from verification.benchmarks.quality.plan import Run, dense_runs
from verification.benchmarks.quality.records import Resources, RunRecords

# Runs at a time. Much of a run keeps only one core busy, so that two runs on half of the cores
# each are faster than one after the other on all of them.
JOBS = 2

# Notes with which a run reports its progress; every other note is about pruning.
EVALUATING = "evaluating"
TASKS = "zero-shot tasks"
FINISHED = "finished"  # also reported for a run whose record exists already
# Where each phase begins, as a share of the run's time. Rough values are enough for a progress bar
# that never goes back. LONG_TEXT comes from Thanos in 2:4 on the whole test set with tasks, which
# took 43 minutes.
SHORT_TEXT = {EVALUATING: 2 / 3}
LONG_TEXT = {EVALUATING: 0.13, TASKS: 0.74}

Progress = Callable[[Run, str, int, int], None]


@dataclass(frozen=True)
class Study:
    """A named part of a profile.

    question  the question that it answers
    minutes   estimated duration on two cores
    runs      pruned models; the dense models that they are compared with are added
    """

    name: str
    profile: str
    question: str
    minutes: float
    runs: tuple[Run, ...]

    @property
    def total(self) -> int:
        """Number of runs, those of dense models included."""
        return len(dense_runs(self.runs)) + len(self.runs)

    def measure(
        self,
        work: Path,
        progress: Progress,
        command: str,
        resources: Resources,
        jobs: int = JOBS,
    ) -> dict[str, Any]:
        """The content of results.json; finished records in `work` are reused."""
        start = time.perf_counter()
        records = measure(self.runs, work, progress, resources, jobs)
        return {
            "study": self.name,
            "profile": self.profile,
            "command": command,
            **environment(resources.device),
            "jobs": jobs,
            "wall_seconds": time.perf_counter() - start,
            "runs": records,
        }


def verified(results: dict[str, Any]) -> bool:
    """Whether every layer of every pruned model is certified."""
    return all(record["verified"] for record in results["runs"] if "layers" in record)


def share_done(run: Run, note: str, done: int, of: int) -> float:
    """How much of a run is done, from 0 to 1; arguments as `measure` passes them to `progress`."""
    if note == FINISHED:
        return 1.0
    begins = SHORT_TEXT if run.evaluation.items == 0 else LONG_TEXT
    starts = [0.0, *begins.values(), 1.0]
    phase = [*begins].index(note) + 1 if note in begins else 0
    start, end = starts[phase : phase + 2]
    return start + (end - start) * done / of


def measure(
    runs: Sequence[Run], work: Path, progress: Progress, resources: Resources, jobs: int = JOBS
) -> list[dict[str, Any]]:
    """The records of the dense models that the runs need, then those of the runs, in their order.

    work      folder of finished records, which are reused whichever study made them
    progress  called with (run, note, done, of); the last call for a run has the note FINISHED,
              and a run whose record exists already has this call alone
    jobs      runs at a time

    Raises ChildProcessError with the end of a run's error output if the run fails; finished
    records are kept. Raises ValueError if another process measures into `work`: it would remove
    files that this one reads.
    """
    with alone_in(work):
        for left in work.glob(".grams-*.partial"):  # by a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        return _measure(runs, RunRecords(work, resources), progress, jobs)


def _measure(
    runs: Sequence[Run], records: RunRecords, progress: Progress, jobs: int
) -> list[dict[str, Any]]:
    dense = dense_runs(runs)
    left = [run for run in runs if not records.finished(run)]
    needed = {run.dense() for run in left}  # their Gram matrices are needed by the runs left
    for run in dense:  # alone on all cores
        if not records.finished(run):
            _run(run, records, cores(), progress, jobs=1)
        elif run in needed and not records.grams(run).exists():
            _process(run, records, cores(), progress, only_grams=True)
    for run in {*dense, *runs} - {*left}:
        progress(run, FINISHED, 1, 1)
    with ThreadPoolExecutor(jobs) as pool:
        threads = max(1, cores() // jobs)
        # Refits take longest. If one of them began last, cores would be idle while it ends.
        left.sort(key=lambda run: -run.refit_steps)
        futures = [pool.submit(_run, run, records, threads, progress, jobs) for run in left]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    for run in dense:
        shutil.rmtree(records.grams(run), ignore_errors=True)
    return [records.read(run) for run in [*dense, *runs]]


def _run(run: Run, records: RunRecords, threads: int, progress: Progress, jobs: int) -> None:
    """Measure one run, while `jobs` runs share the machine, and keep its record."""
    start = time.perf_counter()
    written = _process(run, records, threads, progress)
    record = json.loads(written.read_text(encoding="utf-8"))
    seconds = time.perf_counter() - start
    records.write(run, {**run.as_dict(), **record, "jobs": jobs, "wall_seconds": seconds})
    written.unlink()
    progress(run, FINISHED, 1, 1)


def _process(
    run: Run, records: RunRecords, threads: int, progress: Progress, only_grams: bool = False
) -> Path:
    """Run the worker process; returns the file that it wrote."""
    written, log = (records.folder / f"{run.key}.{end}" for end in ("partial", "err"))
    written.unlink(missing_ok=True)
    task = {
        "run": run.as_dict(),
        "threads": threads,
        "resources": records.resources.as_dict(),
        "out": str(written),
        "grams": str(records.grams(run if run.method == "dense" else run.dense())),
        "only_grams": only_grams,
    }
    command = [sys.executable, "-m", "verification.benchmarks.quality.worker", json.dumps(task)]
    limits = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    with log.open("w+") as errors:
        status = _listen(command, errors, os.environ | limits, partial(progress, run))
        errors.seek(0)
        reason = errors.read().strip()[-2000:] or _ended(status)
    if not written.exists() and not (only_grams and records.grams(run).exists()):
        raise ChildProcessError(f"run {run.key} broke off: {reason}")
    log.unlink()
    return written


def _listen(
    command: list[str],
    errors: IO[str],
    environment: dict[str, str],
    progress: Callable[[str, int, int], None],
) -> int:
    """Run a process, pass on every line of JSON that it prints, and return its exit status.

    The process is killed if the listener raises.
    """
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            progress(*json.loads(line))
        return process.wait()
    finally:
        process.kill()
        process.wait()


def _ended(status: int) -> str:
    """Why a process that printed no error may have ended."""
    if status == -signal.SIGKILL:
        return "it was killed, as Linux does where memory is short: try fewer --jobs"
    return f"it ended with status {status} and said nothing"
