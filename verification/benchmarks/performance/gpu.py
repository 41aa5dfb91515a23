"""Measure everything that needs a GPU within some minutes of a borrowed card, most important first.

    python -m verification.benchmarks.performance.gpu --minutes 8

Every part is a process of its own, because an error on a GPU ends all work of its process. A part
writes OUT/PART.json as it goes, so that a part without time leaves what it has. OUT/gpu.json says
how each part ended. `--device cpu` rehearses the script with tiny layers.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from thanos_torch.runtime.strangers import printable
from verification.benchmarks.environment import ROOT, environment
from verification.benchmarks.performance.counted import SHAPES
from verification.benchmarks.results import write_results

SUMMARY = "gpu.json"
STARTING = 20.0  # seconds: a part that has less is not started
REHEARSED = {"shapes": ((16, 16), (8, 24)), "yardstick": 64}
MODULE = "verification.benchmarks.performance.gpu"
# How far weights of the card and of the interpreter may be apart, in units of float32's roundoff of
# the largest weight of a row: their sums come in another order. A CPU's are apart by 3.4 at most.
SAME_WEIGHTS = 16.0
Content = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One part at work.

    seconds  what it may take; it is killed some seconds later
    """

    part: str
    device: str
    out: Path
    seconds: float

    @property
    def rehearsal(self) -> bool:
        """Whether layers are tiny, and times mean nothing."""
        return self.device == "cpu"

    @property
    def command(self) -> str:
        """As results name it."""
        return f"python -m {MODULE} --device {self.device}"

    def save(self, content: Mapping[str, Any]) -> None:
        """Write what is measured so far."""
        origin = {"command": self.command, "environment": environment(self.device)}
        write_results(self.out / f"{self.part}.json", {**origin, **content}, indent=1)


# The parts


def tests(job: Job) -> Content:
    """Run the tests that need a GPU, and those of the kernels, which run compiled on one."""
    chosen = ["tests/methods/test_arithmetic.py"] if job.rehearsal else ["tests"]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "cuda or triton", *chosen]
    started, limit = time.monotonic(), 0.8 * job.seconds  # the rest is for what is said of it
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=limit
        )
        status, said = done.returncode, done.stdout
    except subprocess.TimeoutExpired as expired:
        status, said = None, (expired.stdout or b"").decode(errors="replace")
    # Pytest's status 5: no test is for this machine.
    content: Content = {
        "passed": status == 0 or (job.rehearsal and status == 5),
        "in_time": status is not None,
        "seconds": time.monotonic() - started,
        "said": [printable(line) for line in said.splitlines()[-20:]],
    }
    job.save(content)
    if not content["passed"]:
        raise RuntimeError(f"pytest: {content['said'][-1] if content['said'] else 'out of time'}")
    return content


def kernels(job: Job) -> Content:
    """Prune small layers here and by Triton's interpreter; masks must be equal bit for bit."""
    file = job.out / "interpreted.safetensors"
    command = [sys.executable, "-m", MODULE, "--interpret", str(file)]
    variables = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(command, cwd=ROOT, env=variables, check=True, timeout=job.seconds)
    read = load_file(file)
    expected = [(read[f"{name} weight"], read[f"{name} mask"]) for name in SMALL_NAMES]
    file.unlink()
    found = small_layers(job.device)
    records: list[Content] = []
    for name, (weight, mask), (other, other_mask) in zip(SMALL_NAMES, found, expected, strict=True):
        scale = other.abs().amax(dim=1, keepdim=True) * 2.0**-24
        ratio = float(((weight - other).abs() / scale / SAME_WEIGHTS).max())
        records.append(
            {"layer": name, "same_mask": torch.equal(mask, other_mask), "weights": ratio}
        )
    content = {"layers": records}
    job.save(content)
    wrong = [each for each in records if not (each["same_mask"] and each["weights"] <= 1)]
    if wrong:
        raise RuntimeError(f"{len(wrong)} of {len(records)} layers differ: {wrong[0]}")
    return content


SMALL = [
    (method, pattern, rows, columns)
    for method in ("thanos", "sparsegpt")
    for pattern in ("unstructured:0.5", "2:4")
    for rows, columns in ((40, 36), (9, 64))
]
SMALL_NAMES = [f"{method} {pattern} {rows} x {columns}" for method, pattern, rows, columns in SMALL]


def small_layers(device: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Weight and mask of each layer of SMALL, on the CPU. The layers are the same anywhere."""
    from reference.patterns import parse_pattern
    from verification.benchmarks.performance.launches import METHODS
    from verification.benchmarks.performance.timing import random_layer

    found = []
    for method, pattern, rows, columns in SMALL:
        W, G = (each.to(device) for each in random_layer((rows, columns), "independent"))
        pruned = METHODS[method](W, G, parse_pattern(pattern), block_size=16)
        found.append((pruned.weight.cpu(), pruned.mask.cpu()))
    return found


def interpret(file: Path) -> None:
    """Prune SMALL by the interpreter, which takes CPU tensors for a device's."""
    from thanos_torch.methods import devices

    devices.HOSTS = frozenset()
    parts = {}
    for name, (weight, mask) in zip(SMALL_NAMES, small_layers("cpu"), strict=True):
        parts[f"{name} weight"], parts[f"{name} mask"] = weight.contiguous(), mask.contiguous()
    save_file(parts, file)


def layers(job: Job) -> Content:
    """Time pruning and certificates beside the card's limits."""
    from verification.benchmarks.performance.device_speed import measure_layers

    sizes: dict[str, Any] = REHEARSED if job.rehearsal else {"shapes": SHAPES}
    command = job.command
    return measure_layers(job.device, **sizes, command=command, progress=_quiet, save=job.save)


def block(job: Job) -> Content:
    """Prune one decoder block of Llama-3 8B's shapes with random weights, certified."""
    from thanos_torch.models import prune_model
    from verification import certify
    from verification.benchmarks.performance.predict import LLAMAS

    llama = replace(LLAMAS[0], vocabulary=2048)  # the block reads no more of it
    if job.rehearsal:
        llama = replace(llama, hidden=32, intermediate=48, heads=4, key_heads=2, vocabulary=64)
    count, length = (2, 8) if job.rehearsal else (16, 2048)
    generator = torch.Generator().manual_seed(0)
    windows = torch.randint(llama.vocabulary, (count, length), generator=generator)
    runs = []
    for pattern in ("unstructured:0.5", "2:4"):
        torch.manual_seed(0)
        built, started = llama.build("cpu").bfloat16(), time.monotonic()
        report = prune_model(built, windows, pattern, judge=certify, device=job.device)
        seconds = time.monotonic() - started  # everything was looked at
        runs.append(
            {
                "pattern": pattern,
                "seconds": seconds,
                "stages": dict(report.seconds),
                "certified": all(each.verified for each in report.layers),
                "layers": [{"name": each.name, "shape": each.shape} for each in report.layers],
            }
        )
        job.save({"model": llama.name, "tokens": count * length, "runs": runs})
    return {"runs": runs}


def model(job: Job) -> Content:
    """Prune SmolLM2-135M, certified."""
    from verification.benchmarks.performance.measure import measure_model

    sizes = {"every": 30, "windows": 1, "length": 16} if job.rehearsal else {"every": 1}
    content = measure_model(device=job.device, **sizes)
    job.save(content)
    return content


# Parts, the most important first, and their shares of the time.
PARTS: dict[str, tuple[Callable[[Job], Content], float]] = {
    "tests": (tests, 0.25),
    "kernels": (kernels, 0.1),
    "layers": (layers, 0.3),
    "block": (block, 0.2),
    "model": (model, 0.15),
}


# The script


def run_parts(minutes: float, device: str, out: Path) -> Content:
    """Run all parts within some minutes; returns the summary, and writes it as each part ends."""
    end = time.monotonic() + 60 * minutes
    summary: Content = {
        "command": f"python -m {MODULE} --minutes {minutes:g} --device {device}",
        "environment": environment(device),
        "driver": driver() if device != "cpu" else None,
        "cuda": torch.version.cuda,
        "triton": version("triton") if find_spec("triton") else None,
        "parts": {},
    }
    shares = [share for _, share in PARTS.values()]
    for number, name in enumerate(PARTS):
        left = end - time.monotonic()
        seconds = left * shares[number] / sum(shares[number:])  # what others left over counts
        started = time.monotonic()
        if seconds < STARTING and device != "cpu":
            status = f"not started: {seconds:.0f} seconds are left for it"
        else:
            status = run_part(Job(name, device, out, seconds))
        taken = time.monotonic() - started
        summary["parts"][name] = {"status": status, "seconds": taken}
        write_results(out / SUMMARY, summary, indent=1)
        print(f"{name}: {status} ({taken:.0f} s)", flush=True)
    return summary


def run_part(job: Job) -> str:
    """Run a part in a process of its own; returns `done`, or what went wrong in one line."""
    command = [sys.executable, "-m", MODULE, "--part", job.part, "--device", job.device]
    command += ["--out", str(job.out.resolve()), "--seconds", f"{job.seconds:.1f}"]
    process = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        _, said = process.communicate(timeout=job.seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with the processes that it started
        process.communicate()
        return f"out of time after {job.seconds:.0f} seconds"
    if process.returncode == 0:
        return "done"
    lines = said.strip().splitlines() or [f"ended with status {process.returncode}"]
    return f"failed: {printable(lines[-1])}"


def driver() -> str:
    """The version of NVIDIA's driver."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.splitlines()[0].strip()


def _quiet(note: str, done: int, of: int) -> None:
    print(f"  {done} of {of}: {note}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """0 if every part is done, 1 otherwise, 2 without a card."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts together")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, default=Path("docs/results/gpu"))
    # Of the processes that this one starts.
    parser.add_argument("--part", choices=[*PARTS], help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=60.0, help=argparse.SUPPRESS)
    parser.add_argument("--interpret", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.interpret:
        interpret(given.interpret)
        return 0
    if given.device == "cuda" and not torch.cuda.is_available():
        print("torch finds no CUDA device: nothing is measured", file=sys.stderr)
        return 2
    if given.part:
        part, _ = PARTS[given.part]
        part(Job(given.part, given.device, given.out, given.seconds))
        return 0
    summary = run_parts(given.minutes, given.device, given.out)
    statuses = [each["status"] for each in summary["parts"].values()]
    return int(any(status != "done" for status in statuses))


if __name__ == "__main__":
    sys.exit(main())
