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
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import LifoQueue
from typing import Any, Self

from reference.threads import number_variables, thread_count
from thanos_torch.runtime.errors import Terminated
from thanos_torch.runtime.progress import alone_in
from verification.benchmarks.environment import environment
from verification.benchmarks.quality.plan import Run, dense_runs
from verification.benchmarks.quality.records import Resources, RunRecords

# Runs at a time. Much of a run keeps only one core busy, so that two runs on half of the cores
# each are faster than one after the other on all of them.
JOBS = 2
CHEAP = ("magnitude", "wanda")  # methods that move no weights

# Notes with which a run reports its progress; every other note is about pruning.
EVALUATING = "evaluating"
TASKS = "zero-shot tasks"
ENDED = "ended"  # from a worker alone: with the exit status of a run's process
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
    # The longest first: if one of them began last, cores would be idle while it ends.
    left.sort(key=lambda run: (-run.refit_steps, run.method in CHEAP))
    threads = max(1, thread_count() // jobs)
    with _Workers(records, threads, jobs) as workers, ThreadPoolExecutor(jobs) as pool:
        for run in dense:  # alone on all threads
            if not records.finished(run):
                _run(run, records, workers, thread_count(), progress, jobs=1)
            elif run in needed and not records.grams(run).exists():
                workers.work(run, thread_count(), progress, only_grams=True)
        for run in {*dense, *runs} - {*left}:
            progress(run, FINISHED, 1, 1)
        arguments = records, workers, threads, progress, jobs
        futures = [pool.submit(_run, run, *arguments) for run in left]
        try:
            for future in futures:
                future.result()
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(
                error, KeyboardInterrupt | Terminated
            ):  # else the other runs at work may finish
                workers.stop()
            raise
    for run in dense:
        shutil.rmtree(records.grams(run), ignore_errors=True)
    return [records.read(run) for run in [*dense, *runs]]


def _run(
    run: Run,
    records: RunRecords,
    workers: "_Workers",
    threads: int,
    progress: Progress,
    jobs: int,
) -> None:
    """Measure one run, while `jobs` runs share the machine, and keep its record."""
    start = time.perf_counter()
    written = workers.work(run, threads, progress)
    record = json.loads(written.read_text(encoding="utf-8"))
    seconds = time.perf_counter() - start
    records.write(run, {**run.as_dict(), **record, "jobs": jobs, "wall_seconds": seconds})
    written.unlink()
    progress(run, FINISHED, 1, 1)


class _Workers:
    """Worker processes, one for every run at a time; a context manager that ends them.

    They start when they are needed, and keep the model that they have loaded: one that has worked
    is asked before one that would have to start.
    """

    def __init__(self, records: RunRecords, threads: int, count: int) -> None:
        self._records = records
        variables = os.environ | number_variables(threads)
        self._all = [
            _Worker(records.folder / f"worker-{number}.err", variables) for number in range(count)
        ]
        self._idle = LifoQueue[_Worker]()
        for worker in reversed(self._all):
            self._idle.put(worker)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Kill the processes; runs at work break off."""
        for worker in self._all:
            worker.stop()

    def work(self, run: Run, threads: int, progress: Progress, only_grams: bool = False) -> Path:
        """Have a run measured by an idle worker; returns the file that it wrote."""
        records = self._records
        written, grams = records.folder / f"{run.key}.partial", records.grams(run.dense())
        written.unlink(missing_ok=True)
        task = {
            "run": run.as_dict(),
            "threads": threads,
            "resources": records.resources.as_dict(),
            "out": str(written),
            "grams": str(grams),
            "only_grams": only_grams,
        }
        worker = self._idle.get()
        try:
            status = worker.listen(task, partial(progress, run))
            if not (grams if only_grams else written).exists():
                said = worker.errors().splitlines()
                reason = said[-1] if said else _ended(status)  # of a traceback, the error
                raise ChildProcessError(f"run {run.key} broke off: {reason}")
        finally:
            self._idle.put(worker)
        return written


class _Worker:
    """A worker process and the file that holds its error output."""

    def __init__(self, log: Path, environment: dict[str, str]) -> None:
        self._log, self._environment = log, environment
        self._process: subprocess.Popen[str] | None = None

    def listen(self, task: dict[str, Any], progress: Callable[[str, int, int], None]) -> int:
        """Have a task done, pass on its progress, and return the exit status of its process.

        The process is killed if the listener raises.
        """
        if self._process is None or self._process.poll() is not None:
            self._process = self._started()
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            os.truncate(self._log, 0)
            with suppress(BrokenPipeError):  # it died at once: its status says why
                print(json.dumps(task), file=process.stdin, flush=True)
            for line in process.stdout:
                note, done, of = json.loads(line)
                if note == ENDED:
                    return int(done)
                progress(note, done, of)
            return process.wait()
        except BaseException:
            self.stop()
            raise

    def errors(self) -> str:
        """The end of the error output since the last task began."""
        return self._log.read_text(encoding="utf-8", errors="replace").strip()[-2000:]

    def stop(self) -> None:
        """Kill the process, and that of the run at work."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                if hasattr(os, "killpg"):
                    os.killpg(self._process.pid, signal.SIGKILL)
                else:
                    self._process.kill()
            self._process.wait()
        self._log.unlink(missing_ok=True)

    def _started(self) -> "subprocess.Popen[str]":
        # In a group of its own, so that a run's process can be killed together with its parent.
        with self._log.open("a") as errors:
            return subprocess.Popen(
                [sys.executable, "-m", "verification.benchmarks.quality.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=self._environment,
                start_new_session=True,
            )


def _ended(status: int) -> str:
    """Why a process that printed no error may have ended."""
    if status == -signal.SIGKILL:
        return "it was killed, as Linux does where memory is short: try fewer --jobs"
    return f"it ended with status {status} and said nothing"
