"""`thanos bench inference`: its settings, and the run of all its measurements."""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reference.threads import number_variables, thread_count
from thanos_torch.models import read_record
from verification.benchmarks.environment import Progress, environment
from verification.benchmarks.inference.variants import (
    DENSE,
    Variant,
    measured_sizes,
    prune_to,
    variants_of,
)

PATTERNS = ("unstructured:0.5", "4:8", "2:4", "structured:0.3", "structured:0.3+outliers:0.1")
LARGE = ((2048, 2048), (2048, 8192), (8192, 2048))
SMOLLM2 = ((576, 576), (192, 576), (1536, 576), (576, 1536))


@dataclass(frozen=True)
class InferenceSettings:
    """What the inference benchmark measures, and how often.

    patterns      patterns that the model is pruned to, unless it is pruned already
    prompt        tokens of the prompt that prefill reads
    tokens        tokens that are decoded after the prompt, one by one
    rounds        repeats, in each of which every model runs once
    shapes        (rows, columns) of single layers
    sparsity, outlier_rows  their structured patterns: one for each share of outlier rows
    layer_rounds  repeats of single layers, by the number of tokens
    turn_bytes    see `measure.time_layers`
    """

    patterns: tuple[str, ...] = PATTERNS
    prompt: int = 512
    tokens: int = 32
    rounds: int = 20
    shapes: tuple[tuple[int, int], ...] = LARGE + SMOLLM2
    sparsity: float = 0.3
    outlier_rows: tuple[float, ...] = (0.0, 0.1)
    layer_rounds: dict[str, int] = field(default_factory=lambda: {"1": 200, "512": 40})
    turn_bytes: int = 2**30
    dataset: str = "pydoc"
    nsamples: int = 16
    seqlen: int = 512
    seed: int = 0
    device: str = "cpu"

    def calibration(self) -> dict[str, Any]:
        """The arguments of `calibration_windows`."""
        names = ("dataset", "nsamples", "seqlen", "seed")
        return {name: getattr(self, name) for name in names}


QUICK = InferenceSettings(
    patterns=("structured:0.3+outliers:0.1",),
    tokens=8,
    rounds=6,
    shapes=((2048, 2048), (576, 576)),
    outlier_rows=(0.1,),
    layer_rounds={"1": 20, "512": 6},
    turn_bytes=2**28,
    nsamples=4,
)
STANDARD = InferenceSettings()


def run_inference(
    model: str,
    settings: InferenceSettings,
    progress: Progress,
    command: str,
    profile: str = "standard",
) -> dict[str, Any]:
    """Measure a model in every form, and single layers; the content of inference.json.

    model  a name for `load_model`, which is pruned to every pattern of the settings, or a folder
           of `thanos prune`, which is measured as it is

    Raises ChildProcessError with the end of the error output if a measurement fails.
    """
    start = time.perf_counter()
    threads = thread_count()
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="thanos-inference-") as scratch:
        work = Path(scratch)
        process = _Process(work, threads, progress)
        layers = process.run(
            "layers",
            shapes=settings.shapes,
            sparsity=settings.sparsity,
            outlier_rows=settings.outlier_rows,
            repeats=settings.layer_rounds,
            turn_bytes=settings.turn_bytes,
        )
        variants = _prepare(model, settings, work, runs, progress)
        options = {
            "prompt": settings.prompt,
            "tokens": settings.tokens,
            "device": settings.device,
        }
        asked = [variant.as_dict() for variant in variants]
        *latencies, control = process.run(
            "latency", variants=asked, repeats=settings.rounds, **options
        )
        for record, variant, latency in zip(runs, asked, latencies, strict=True):
            record["latency"] = latency
            record["memory"] = process.run("memory", variant=variant, **options)
    return {
        "study": "inference",
        "profile": profile,
        "command": command,
        **environment(settings.device),
        "settings": {**asdict(settings), "threads": threads, "model": model},
        "wall_seconds": time.perf_counter() - start,
        "layers": layers,
        "runs": runs,
        "control": control,
    }


def _prepare(
    model: str,
    settings: InferenceSettings,
    work: Path,
    runs: list[dict[str, Any]],
    progress: Progress,
) -> list[Variant]:
    """Prune and pack. Appends a record of each variant to `runs`; returns the variants."""
    variants: list[Variant] = []
    record = read_record(Path(model)) if Path(model).is_dir() else None
    base = {"model": model, "calibration": settings.calibration()}

    def add(variant: Variant, method: str, **known: Any) -> None:
        run = {"method": method, "pattern": variant.pattern, "refit_steps": 0, "form": variant.form}
        variants.append(variant)
        runs.append({"run": run, **base, **known})

    if record is None:
        add(Variant("", DENSE, model), DENSE)
    for number, pattern in enumerate(settings.patterns if record is None else [record["pattern"]]):
        pruned, packed = Path(model), work / f"packed-{number}"
        if record is None:
            pruned = work / f"pruned-{number}"
            calibration = settings.calibration()
            verified = prune_to(model, pattern, pruned, calibration, progress, settings.device)
        else:
            verified = bool(record["verified"])
        sizes = measured_sizes(pruned, packed)
        for variant in variants_of(pattern, sizes["forms"], pruned, packed, settings.device):
            method = "thanos" if record is None else record["method"]
            add(variant, method, sizes=sizes, verified=verified)
    return variants


class _Process:
    """Runs each measurement of `measure.main` in its own process."""

    def __init__(self, work: Path, threads: int, progress: Progress) -> None:
        self._work, self._threads, self._progress = work, threads, progress

    def run(self, kind: str, **asked: Any) -> Any:
        """Measure `kind` with arguments for `measure.main`; returns its result."""
        out, errors = self._work / "result.json", self._work / "errors.txt"
        task = json.dumps({"kind": kind, "threads": self._threads, **asked})
        module = "verification.benchmarks.inference.measure"
        with errors.open("w+") as written:
            process = subprocess.Popen(
                [sys.executable, "-m", module, task, str(out)],
                stdout=subprocess.PIPE,
                stderr=written,
                text=True,
                env=os.environ | number_variables(self._threads),
            )
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    self._progress(*json.loads(line))
            except BaseException:
                process.kill()
                raise
            if process.wait():
                written.seek(0)
                reason = written.read().strip()[-2000:]
                status = process.returncode
                raise ChildProcessError(f"measuring {kind} ended with status {status}: {reason}")
        return json.loads(out.read_text())
