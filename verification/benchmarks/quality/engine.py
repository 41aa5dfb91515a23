"""Runs a study, some processes at a time, and goes on where it was stopped."""

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

EVALUATING = "evaluating"
TASKS = "zero-shot tasks"
FINISHED = "finished"  # also of runs that need not be made again; any other report is of pruning
# Where each phase begins, as a share of the run's time: rough, as a bar that never goes back needs
# no more. On a short text; and on the whole test set with tasks, as Thanos in 2:4 took 43 minutes.
SHORT = {EVALUATING: 2 / 3}
LONG = {EVALUATING: 0.13, TASKS: 0.74}


def share_done(run: Run, note: str, done: int, of: int) -> float:
    """From 0 to 1. note, done, of: what `engine.measure` tells its `progress`."""
    if note == FINISHED:
        return 1.0
    begins = SHORT if run.evaluation.items == 0 else LONG
    starts = [0.0, *begins.values(), 1.0]
    phase = [*begins].index(note) + 1 if note in begins else 0
    start, end = starts[phase : phase + 2]
    return start + (end - start) * done / of


# Runs at a time. Much of a run keeps only one core busy, so that two runs on half of the cores
# each are faster than one after the other on all of them.
JOBS = 2

Progress = Callable[[Run, str, int, int], None]


def measure(
    runs: Sequence[Run], work: Path, progress: Progress, resources: Resources, jobs: int = JOBS
) -> list[dict[str, Any]]:
    """The records of the dense models that the runs need, and of the runs, in their order.

    work      folder for finished records; whatever study made them, they are taken from there
    progress  told what a run is at, which ends with `FINISHED`; of one that was made before,
              that alone
    jobs      runs at a time

    Raises ChildProcessError with the end of a run's error output if a run breaks off; those that
    are finished are kept. Raises ValueError if another process measures into `work`: it would
    remove what this one reads.
    """
    with alone_in(work):
        for left in work.glob(".grams-*.partial"):  # by a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        return _measure(runs, work, progress, resources, jobs)


def _measure(
    runs: Sequence[Run], work: Path, progress: Progress, resources: Resources, jobs: int
) -> list[dict[str, Any]]:
    records = RunRecords(work, resources)
    dense = dense_runs(runs)
    left = [run for run in runs if not records.finished(run)]
    needed = {run.dense() for run in left}  # the others measure with its Gram matrices
    for run in dense:  # alone on all cores
        if not records.finished(run):
            _run(run, records, cores(), progress, resources, jobs=1)
        elif run in needed and not records.grams(run).exists():
            _process(run, records, cores(), progress, resources, only_grams=True)
    for run in {*dense, *runs} - {*left}:
        progress(run, FINISHED, 1, 1)
    with ThreadPoolExecutor(jobs) as pool:
        threads = max(1, cores() // jobs)
        # Refits take the longest: begun last, one of them would leave cores without work.
        left.sort(key=lambda run: -run.refit_steps)
        futures = [
            pool.submit(_run, run, records, threads, progress, resources, jobs) for run in left
        ]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    for run in dense:
        shutil.rmtree(records.grams(run), ignore_errors=True)
    return [records.read(run) for run in [*dense, *runs]]


def _listen(
    command: list[str],
    errors: IO[str],
    environment: dict[str, str],
    told: Callable[[str, int, int], None],
) -> int:
    """Pass on what a process says line by line, in JSON; its status. It dies with its listener."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            told(*json.loads(line))
        return process.wait()
    finally:
        process.kill()
        process.wait()


def _run(
    run: Run,
    records: RunRecords,
    threads: int,
    progress: Progress,
    resources: Resources,
    jobs: int,
) -> None:
    """One run in a process of its own, of `jobs` at a time; what it wrote becomes its record."""
    start = time.perf_counter()
    written = _process(run, records, threads, progress, resources)
    record = json.loads(written.read_text(encoding="utf-8"))
    seconds = time.perf_counter() - start
    records.write(run, {**run.as_dict(), **record, "jobs": jobs, "wall_seconds": seconds})
    written.unlink()
    progress(run, FINISHED, 1, 1)


def _process(
    run: Run,
    records: RunRecords,
    threads: int,
    progress: Progress,
    resources: Resources,
    only_grams: bool = False,
) -> Path:
    """Run the worker; returns the file with what it found."""
    written, told = (records.folder / f"{run.key}.{end}" for end in ("partial", "err"))
    written.unlink(missing_ok=True)
    task = {
        "run": run.as_dict(),
        "threads": threads,
        "resources": resources.as_dict(),
        "out": str(written),
        "grams": str(records.grams(run if run.method == "dense" else run.dense())),
        "only_grams": only_grams,
    }
    command = [sys.executable, "-m", "verification.benchmarks.quality.worker", json.dumps(task)]
    limits = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    with told.open("w+") as errors:
        status = _listen(command, errors, os.environ | limits, partial(progress, run))
        errors.seek(0)
        reason = errors.read().strip()[-2000:] or _ended(status)
    if not written.exists() and not (only_grams and records.grams(run).exists()):
        raise ChildProcessError(f"run {run.key} broke off: {reason}")
    told.unlink()
    return written


def _ended(status: int) -> str:
    """Why a process that said nothing may have ended."""
    if status == -signal.SIGKILL:
        return "it was killed, as Linux does where memory is short: try fewer --jobs"
    return f"it ended with status {status} and said nothing"


Results = dict[str, Any]
RESULTS = "results.json"


@dataclass(frozen=True)
class Study:
    """A named part of a profile.

    question  that it is measured for
    minutes   that it takes on two cores, about
    runs      pruned models; the dense ones that they are compared with come by themselves
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
    ) -> Results:
        """What results.json holds; records in `work` that are finished are not made again."""
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


def verified(results: Results) -> bool:
    """Whether every layer of every pruned model is certified."""
    return all(record["verified"] for record in results["runs"] if "layers" in record)
