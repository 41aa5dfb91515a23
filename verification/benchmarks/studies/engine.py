"""Runs a study, two processes at a time, and goes on where it was stopped."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import IO, Any

import reference
import thanos_torch
import verification
from thanos_torch.models.durable import write_json
from verification.benchmarks.environment import cores, environment
from verification.benchmarks.studies.plan import Run, dense_runs
from verification.benchmarks.studies.resources import Resources

# Runs at a time. Much of a run keeps only one core busy, so that two runs on half of the cores
# each are faster than one after the other on all of them.
JOBS = 2

Progress = Callable[[Run, str, int, int], None]


def measure(
    runs: Sequence[Run],
    work: Path,
    progress: Progress,
    resources: Resources,
    *,
    jobs: int = JOBS,
) -> list[dict[str, Any]]:
    """The records of the dense models that the runs need, and of the runs, in their order.

    work  folder for finished records; a study that was stopped takes them from there

    Raises ChildProcessError with the end of a run's error output if a run breaks off; those that
    are finished are kept.
    """
    work.mkdir(parents=True, exist_ok=True)
    dense = dense_runs(runs)
    left = [run for run in runs if not _finished(work, run)]
    if left:
        needed = {run.dense() for run in left}
        for run in dense:  # alone on all cores: the others measure with its Gram matrices
            if not _finished(work, run) or (run in needed and not _grams(work, run).exists()):
                _run(run, work, cores(), progress, resources)
    with ThreadPoolExecutor(jobs) as pool:
        threads = max(1, cores() // jobs)
        futures = [pool.submit(_run, run, work, threads, progress, resources) for run in left]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    for run in dense:
        shutil.rmtree(_grams(work, run), ignore_errors=True)
    return [_read(work, run) for run in [*dense, *runs]]


def code_fingerprint() -> str:
    """SHA-256 of the code that decides what a run finds; commands and pages may change."""
    pruning, certificate, counts = (
        Path(str(module.__file__)).parent for module in (thanos_torch, verification, reference)
    )
    files = [*pruning.glob("*.py"), *(pruning / "models").glob("*.py"), counts / "patterns.py"]
    files += (certificate / "certificate").glob("*.py")
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]


@cache
def _origin() -> dict[str, Any]:
    """What a record was made with; one made otherwise is made again."""
    made = environment()
    return {"code": code_fingerprint(), "versions": made["versions"], "python": made["python"]}


def _record_file(work: Path, run: Run) -> Path:
    return work / f"{run.key}.json"


def _grams(work: Path, dense: Run) -> Path:
    return work / f"grams-{dense.key}"


def _finished(work: Path, run: Run) -> bool:
    try:
        record = json.loads(_record_file(work, run).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(record["origin_of_record"] == _origin())


def _read(work: Path, run: Run) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(_record_file(work, run).read_text(encoding="utf-8"))
    return {name: value for name, value in record.items() if name != "origin_of_record"}


def _told(command: list[str], errors: IO[str], environment: dict[str, str]) -> Iterator[Any]:
    """What a process says line by line, in JSON; it does not outlive its listener."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
    )
    assert process.stdout is not None
    try:
        yield from map(json.loads, process.stdout)
        process.wait()
    finally:
        process.kill()
        process.wait()


def _run(run: Run, work: Path, threads: int, progress: Progress, resources: Resources) -> None:
    """One run in a process of its own; what it wrote becomes a finished record."""
    written = work / f"{run.key}.partial"
    written.unlink(missing_ok=True)
    task = {
        "run": run.as_dict(),
        "threads": threads,
        "resources": resources.as_dict(),
        "out": str(written),
        "grams": str(_grams(work, run if run.method == "dense" else run.dense())),
    }
    command = [sys.executable, "-m", "verification.benchmarks.studies.worker", json.dumps(task)]
    limits = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    with (work / f"{run.key}.err").open("w+") as errors:
        for note, done, of in _told(command, errors, os.environ | limits):
            progress(run, note, done, of)
        errors.seek(0)
        reason = errors.read().strip()[-2000:]
    if not written.exists():
        raise ChildProcessError(f"run {run.key} broke off: {reason}")
    record = json.loads(written.read_text(encoding="utf-8"))
    made = environment()
    whole = {
        **run.as_dict(),
        **record,
        "wall_seconds": time.perf_counter() - start,
        "commit": made["commit"],
        "machine": made["machine"],
        "origin_of_record": _origin(),
    }
    write_json(_record_file(work, run), whole)
    written.unlink()
    (work / f"{run.key}.err").unlink()
