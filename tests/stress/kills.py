"""SIGKILL at random, again and again: `python -m tests.stress.kills`.

A run is killed and started again until it ends; then its result must be that of a run that nobody
disturbed, byte for byte but for the seconds in thanos.json. Every process is forked from one that
has imported the program, which saves seconds a kill, and then runs `thanos prune` as a user would.
"""

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from tests.models import tiny
from tests.stress.program import differing_files, fork_program, wait_for, write_results
from thanos_torch.runtime.files import STAGES

KILLS = 100
RESULT = Path("docs/results/kills.json")
# Share of the kills that wait for the first stage: most of the time goes into loading.
WHILE_AT_WORK = 0.8
# A kill in each of these is asked for; those that chance leaves out are hit by fail points.
WANTED = ("calibration", "solve", "shard write", "rename", "join", "drop")


def stress() -> int:
    """Exit status 0: every result was the same, and every stage of WANTED was hit."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        runs = Stress(Path(folder), random.Random(0))
        while len(runs.kills) < KILLS:
            runs.one_run(KILLS)
        for stage in sorted(set(WANTED) - {kill["stage"] for kill in runs.kills}):
            runs.by_fail_point(stage)
    count = Counter(kill["stage"] for kill in runs.kills)
    passed = not runs.wrong and set(WANTED) <= set(count)
    by_stage = {stage: count[stage] for stage in ("start", *STAGES)}
    print(by_stage, f"{runs.compared} results compared", runs.wrong or "")
    return write_results(
        RESULT,
        "kills",
        passed,
        kills_by_stage=by_stage,
        results_compared=runs.compared,
        results_that_differ=runs.wrong,
        undisturbed_seconds=runs.span,
        kills=runs.kills,
    )


class Stress:
    """One reference result, and what came of the runs that were killed."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.kills: list[dict[str, Any]] = []
        self.compared = 0
        self.wrong: list[str] = []
        self._folder, self._chance = folder, chance
        self._out, self._trace = folder / "out", folder / "trace"
        self._reference = folder / "reference"
        model = tiny.random_model(tiny.llama_config(num_hidden_layers=8))
        tiny.save_checkpoint(model, folder / "dense")
        child = self._start(self._reference)
        self._wait_for_work(child)
        start = time.perf_counter()
        assert wait_for(child) == 0
        self.span = time.perf_counter() - start

    def one_run(self, most: int) -> None:
        """Start until the result is there; kill at a random moment while kills are left."""
        self._clear()
        while not self._out.exists():
            before = time.perf_counter()
            child = self._start(self._out)
            if len(self.kills) < most:
                if self._chance.random() < WHILE_AT_WORK:
                    self._wait_for_work(child)
                time.sleep(self._chance.uniform(0, self.span))
                os.kill(child, signal.SIGKILL)
            status = wait_for(child)
            if status == -signal.SIGKILL:
                self._note("at random", time.perf_counter() - before)
            elif status:
                self.wrong.append(f"exit status {status} after {len(self.kills)} kills")
                return
        self._compare()

    def by_fail_point(self, stage: str) -> None:
        """Kill at the first time that a stage begins, then run to the end."""
        self._clear()
        wait_for(self._start(self._out, f"{stage}:1:kill"))
        self._note("by fail point", 0.0)
        wait_for(self._start(self._out))
        self._compare()

    def _start(self, out: Path, fail: str = "") -> int:
        self._trace.write_text("")
        arguments = ["prune", self._folder / "dense", "--out", out, "--pattern", "2:4"]
        arguments += ["--nsamples", 70, "--seqlen", 32, "--block-size", 8]
        environment = {"THANOS_TRACE": str(self._trace), "THANOS_FAILPOINT": fail}
        return fork_program(arguments, environment)

    def _wait_for_work(self, child: int) -> None:
        """Until the first stage begins, or the process has ended."""
        while not self._trace.stat().st_size and not os.waitid(
            os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT
        ):
            time.sleep(0.002)

    def _note(self, how: str, seconds: float) -> None:
        stages = self._trace.read_text().split("\n")[:-1]
        stage = stages[-1] if stages else "start"
        self.kills.append({"stage": stage, "begun": len(stages), "after": seconds, "how": how})

    def _compare(self) -> None:
        self.compared += 1
        found = differing_files(self._reference, self._out)
        if found:
            self.wrong.append(f"{', '.join(found)} after {len(self.kills)} kills")

    def _clear(self) -> None:
        for folder in (self._out, self._out.with_name("out.partial")):
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(stress())
