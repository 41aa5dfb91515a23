"""Pruning beside other processes: `python -m tests.stress.busy`.

`thanos prune` prunes and certifies 28 layers with the shapes of SmolLM2-135M on two cores, alone
and beside two busy loops, in turn. Two threads that get half of each core need twice the time; they
may take BOUND times as long. Threads that spin while they wait must break the bound: if they did
not, this would measure nothing.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from tests.models import tiny
from tests.stress.program import THANOS, write_results

RESULT = Path("docs/results/busy.json")
BOUND = 3.0
ROUNDS = 3
CORES = 2
SIZES = {
    "num_hidden_layers": 4,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 2048,
}
OPTIONS = ["--pattern", "unstructured:0.5", "--nsamples", "16", "--seqlen", "128"]
SPINNING = {"OMP_WAIT_POLICY": "active"}
# The control is ended when its layers have taken so many times the bound.
CONTROL = 2
LOOP = [sys.executable, "-c", "while True: pass"]


def stress() -> int:
    """Exit status 0: the bound held in the median of the rounds, and spinning threads broke it."""
    if hasattr(os, "sched_setaffinity"):  # processes started from here on inherit it
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    with tempfile.TemporaryDirectory() as folder:
        model = tiny.random_model(tiny.llama_config(**SIZES))
        dense = tiny.save_checkpoint(model, Path(folder) / "dense")
        rounds: list[dict[str, Any]] = []
        for number in range(ROUNDS):
            load = os.getloadavg()[0]  # of other work: it should be near 0, or alone is not alone
            alone = prune(dense)
            with busy_loops():
                beside = prune(dense)
            rounds.append({"load_before": load, "alone": alone, "beside": beside})
            print(f"round {number + 1}: {alone['seconds']:.1f} s alone, {beside['seconds']:.1f} s")
        seconds = median(pair["alone"]["seconds"] for pair in rounds)
        startup = max(pair["beside"]["wall"] - pair["beside"]["seconds"] for pair in rounds)
        with busy_loops():
            control = prune(dense, SPINNING, startup + CONTROL * BOUND * seconds)
    ratios = [pair["beside"]["seconds"] / pair["alone"]["seconds"] for pair in rounds]
    spinning = control.get("seconds", CONTROL * BOUND * seconds) / seconds
    print(f"beside over alone: {median(ratios):.2f}; spinning: {spinning:.1f} or more")
    return write_results(
        RESULT,
        "busy",
        median(ratios) <= BOUND < spinning,
        bound=BOUND,
        median_ratio=median(ratios),
        ratios=ratios,
        rounds=rounds,
        control={**control, "variables": SPINNING, "ratio_at_least": spinning},
        layers=7 * SIZES["num_hidden_layers"],
        model=SIZES,
    )


def prune(
    dense: Path, variables: Mapping[str, str] | None = None, limit: float | None = None
) -> dict[str, Any]:
    """Prune in a fresh process: seconds of its layers and calibration, and of all of it.

    variables  set beside those of this process
    limit      seconds after which the process is killed; then its layers have no seconds
    """
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "pruned"
        command = [*THANOS, "prune", str(dense), "--out", str(out), *OPTIONS]
        environment = inherited() | dict(variables or {})
        try:
            subprocess.run(
                command, env=environment, timeout=limit, check=True, stdout=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            return {"wall": time.perf_counter() - start}
        wall = time.perf_counter() - start
        stages = json.loads((out / "thanos.json").read_text())["seconds"]
    return {"wall": wall, "seconds": sum(stages.values()), "stages": stages}


def inherited() -> dict[str, str]:
    """This process's variables, without those that this project and its tests set for threads."""
    ours = ("OMP_", "GOMP_", "OPENBLAS_", "MKL_", "KMP_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@contextmanager
def busy_loops() -> Iterator[None]:
    """A process on every core that does nothing but count, until the context is left."""
    loops = [subprocess.Popen(LOOP) for _ in range(CORES)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


if __name__ == "__main__":
    sys.exit(stress())
