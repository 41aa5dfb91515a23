"""All of `thanos bench inference`, and its results as data."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from reference.patterns import SemiStructured, Structured, parse_pattern
from thanos_torch.forms import FORMS, choose, form_bytes, semi_structured_linear
from thanos_torch.models import (
    LayerOptions,
    PackedSizes,
    Rules,
    calibration_windows,
    load_model,
    load_packed,
    pack_checkpoint,
    prune_checkpoint,
    read_record,
    stream_model,
)
from verification import certify
from verification.benchmarks.environment import cores, environment

Progress = Callable[[str, int, int], None]
DENSE = "dense"  # zeros, if there are any, stay in place


@dataclass(frozen=True)
class Variant:
    """A way to run a model.

    pattern  that it was pruned to; empty if it was not
    form     DENSE, `compact`, or `semi-structured`
    source   what it is loaded from
    """

    pattern: str
    form: str
    source: str

    def as_dict(self) -> dict[str, str]:
        """JSON-able; the arguments of this class."""
        return asdict(self)

    def load(self, device: str) -> Any:
        """The model; in bfloat16 on a GPU, whose sparse units know no float32."""
        if self.form == "compact":
            model = load_packed(Path(self.source)).loaded.model
        else:
            model = load_model(self.source).model
        if device != "cpu":
            model = model.to(device, torch.bfloat16)
        return semi_structured(model) if self.form == "semi-structured" else model


def variants_of(
    pattern: str, forms: list[str], pruned: Path, packed: Path, device: str
) -> list[Variant]:
    """How a pruned model, whose layers were packed in `forms`, can be run on a device."""
    found = [Variant(pattern, DENSE, str(pruned))]
    if "compact" in forms:
        found.append(Variant(pattern, "compact", str(packed)))
    if device != "cpu" and pattern == "2:4":
        found.append(Variant(pattern, "semi-structured", str(pruned)))
    return found


def semi_structured(model: Any) -> Any:
    """Put the layers whose weights are 2:4 on the sparse units of a GPU."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and _is_2_4(module):
            owner, _, own = name.rpartition(".")
            setattr(model.get_submodule(owner), own, semi_structured_linear(module))
    return model


def prune_to(
    model: str,
    pattern: str,
    out: Path,
    calibration: dict[str, Any],
    progress: Progress,
    device: str,
) -> bool:
    """Write a checkpoint of `model` pruned by Thanos; whether every certificate passed."""
    loaded, streamed = stream_model(model)
    windows = calibration_windows(loaded.tokenizer, **calibration)
    record = prune_checkpoint(
        streamed,
        windows.ids,
        Rules(LayerOptions(parse_pattern(pattern))),
        out,
        judge=certify,
        device=device,
        record={"settings": {"pattern": pattern, **calibration}, "model": loaded.provenance()},
        activations="memory",
        progress=lambda _, done, of: progress(f"pruning to {pattern}", done, of),
    )
    return bool(record["verified"])


def measured_sizes(pruned: Path, packed: Path) -> dict[str, Any]:
    """Bytes on the disk of a packed checkpoint, and by formula what its layers take in each form.

    formulas  bytes of all pruned layers' weights, by form and bytes of a number
    """
    found = pack_checkpoint(pruned, packed)
    on_disk = {name: size for name, size in found.as_dict().items() if name != "layers"}
    forms = sorted({form for layer in found.layers.values() for form in layer.forms})
    return {"forms": forms, "disk": on_disk, "formulas": _by_formula(found)}


def _by_formula(found: PackedSizes) -> dict[str, dict[str, int]]:
    layers = [(parse_pattern(layer.pattern), layer.shape) for layer in found.layers.values()]
    totals: dict[str, dict[str, int]] = {}
    for form in (DENSE, *FORMS):
        if form == "compact" and not all(isinstance(p, Structured) for p, _ in layers):
            continue
        if form == "nm" and not all(isinstance(p, SemiStructured) for p, _ in layers):
            continue
        totals[form] = {
            str(itemsize): sum(
                choose.dense_bytes(*shape, itemsize)
                if form == DENSE
                else form_bytes(form, pattern, shape, itemsize)
                for pattern, shape in layers
            )
            for itemsize in (4, 2)
        }
    return totals


def model_bytes(model: nn.Module) -> int:
    """Of all parameters and buffers; those that are shared count once."""
    tensors: Iterable[torch.Tensor] = [*model.parameters(), *model.buffers()]
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())


def _is_2_4(linear: nn.Linear) -> bool:
    weight = linear.weight
    if weight.shape[1] % 4:
        return False
    return bool(((weight.view(-1, 4) == 0).sum(dim=1) >= 2).all())


PATTERNS = ("unstructured:0.5", "4:8", "2:4", "structured:0.3", "structured:0.3+outliers:0.1")
LARGE = ((2048, 2048), (2048, 8192), (8192, 2048))
SMOLLM2 = ((576, 576), (192, 576), (1536, 576), (576, 1536))


@dataclass(frozen=True)
class Settings:
    """What is measured, and how often.

    patterns      that the model is pruned to; a pruned checkpoint has one already
    prompt        tokens of the prompt that prefill reads
    tokens        tokens that are decoded after it, one by one
    rounds        of all models
    shapes        of single layers
    outlier_rows  of single layers, at `sparsity`
    layer_rounds  by the number of tokens
    turn_bytes    of `layers.time_layers`
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
    threads: int = 0
    device: str = "cpu"

    def calibration(self) -> dict[str, Any]:
        """The arguments of `calibration_windows`."""
        names = ("dataset", "nsamples", "seqlen", "seed")
        return {name: getattr(self, name) for name in names}


QUICK = Settings(
    patterns=("structured:0.3+outliers:0.1",),
    tokens=8,
    rounds=6,
    shapes=((2048, 2048), (576, 576)),
    outlier_rows=(0.1,),
    layer_rounds={"1": 20, "512": 6},
    turn_bytes=2**28,
    nsamples=4,
)
STANDARD = Settings()


def run_inference(
    model: str, settings: Settings, progress: Progress, command: str, profile: str = "standard"
) -> dict[str, Any]:
    """Measure a model in every form, and single layers; what the results file holds.

    model  for `load_model`: it is pruned to every pattern of the settings; or a folder of
           `thanos prune`, which is measured as it is

    Raises ChildProcessError with the end of its error output if a measurement breaks off.
    """
    start = time.perf_counter()
    threads = settings.threads or cores()
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
    model: str, settings: Settings, work: Path, runs: list[dict[str, Any]], progress: Progress
) -> list[Variant]:
    """Prune and pack; fills `runs` with what is known so far of each variant, in its order."""
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
    """Runs measurements, each in a process of its own."""

    def __init__(self, work: Path, threads: int, progress: Progress) -> None:
        self._work, self._threads, self._progress = work, threads, progress

    def run(self, kind: str, **asked: Any) -> Any:
        """What the process found."""
        out, errors = self._work / "result.json", self._work / "errors.txt"
        task = json.dumps({"kind": kind, "threads": self._threads, **asked})
        module = "verification.benchmarks.inference.measure"
        limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(self._threads))
        with errors.open("w+") as written:
            process = subprocess.Popen(
                [sys.executable, "-m", module, task, str(out)],
                stdout=subprocess.PIPE,
                stderr=written,
                text=True,
                env=os.environ | limits,
            )
            assert process.stdout is not None
            for line in process.stdout:
                self._progress(*json.loads(line))
            if process.wait():
                written.seek(0)
                reason = written.read().strip()[-2000:]
                status = process.returncode
                raise ChildProcessError(f"measuring {kind} ended with status {status}: {reason}")
        return json.loads(out.read_text())
