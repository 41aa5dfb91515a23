"""One run of a benchmark, in a process of its own: `python -m verification.benchmarks.worker`.

A fresh process makes peak memory mean something, and keeps runs from warming each other up.
Progress goes to the standard output, a JSON list [note, done, of] a line.
"""

import json
import resource
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from reference.patterns import Unstructured, parse_pattern
from thanos_torch.models import (
    LayerRecord,
    PrunedLayer,
    calibration_windows,
    evaluation_windows,
    load_model,
    perplexity,
    prune_model,
    relative_error,
)
from verification import certify
from verification.benchmarks.plan import DENSE, Run, Settings

MAP_CELLS = (24, 64)  # rows and columns of the picture of a mask
MAP_LAYER = "10.mlp.down_proj"  # a layer from the middle, whose mask the report shows


def main(task: str, work: str, out: str) -> None:
    """Do one run, JSON of a Run and its Settings, and write its record to the file `out`."""
    run, settings = Run(**json.loads(task)["run"]), Settings(**json.loads(task)["settings"])
    torch.set_num_threads(settings.threads)
    loaded = load_model(settings.model)
    windows = calibration_windows(
        loaded.tokenizer,
        settings.dataset,
        nsamples=settings.nsamples,
        seqlen=settings.seqlen,
        seed=settings.seed,
    ).ids
    record: dict[str, Any] = {"run": asdict(run), "origin": loaded.origin}
    if run == DENSE:
        save_dense_grams(loaded.model, windows, Path(work))
        record |= {"weights": sum(p.numel() for p in loaded.model.parameters())}
    else:
        record |= pruned_record(loaded.model, windows, run, settings, Path(work))
    record["peak_memory_bytes"] = peak_memory()
    text = evaluation_windows(
        loaded.tokenizer,
        settings.dataset,
        seqlen=settings.seqlen,
        limit=settings.evaluation_windows,
    )
    measured = perplexity(loaded.model, text.ids, lambda done, of: tell("evaluating", done, of))
    Path(out).write_text(json.dumps(record | measured.as_dict(), allow_nan=False))


def pruned_record(
    model: Any, windows: Tensor, run: Run, settings: Settings, work: Path
) -> dict[str, Any]:
    """Prune the model in place; what there is to say about it, layer by layer."""
    dense_errors: dict[str, float] = {}
    picture: list[list[float]] = []

    def look(layer: PrunedLayer) -> None:
        gram = load_file(gram_file(work, layer.name))["gram"]
        dense_errors[layer.name] = relative_error(layer.weight, layer.pruned.weight, gram)
        if layer.name.endswith(MAP_LAYER):
            picture.extend(mask_picture(layer.pruned.mask))

    report = prune_model(
        model,
        windows,
        parse_pattern(run.pattern),
        judge=certify,
        method=run.method,
        block_size=settings.block_size,
        damping=settings.damping,
        on_layer=look,
        progress=tell,
    )
    layers = [layer_record(layer, dense_errors) for layer in report.layers]
    return {
        "verified": report.verified,
        "sparsity": report.sparsity,
        "error": report.relative_error,
        "dense_error": sum(dense_errors.values()) / len(dense_errors),
        "seconds": dict(report.seconds),
        "layers": layers,
        "mask_picture": {"layer": MAP_LAYER, "density": picture},
    }


def layer_record(layer: LayerRecord, dense_errors: dict[str, float]) -> dict[str, Any]:
    """One layer in results.json: the numbers, and the certificate's without its words."""
    certificate: Any = layer.certificate or {"passed": False, "checks": []}
    return {
        "name": layer.name,
        "shape": layer.shape,
        "removed": layer.removed,
        "error": layer.relative_error,
        "dense_error": dense_errors.get(layer.name),
        "seconds": layer.seconds,
        "passed": layer.verified,
        "checks": {check["name"]: check["value"] for check in certificate["checks"]},
        "solver_steps": layer.diagnostics.get("solver_steps"),
        "direct_rows": layer.diagnostics.get("direct_rows"),
    }


def save_dense_grams(model: Any, windows: Tensor, work: Path) -> None:
    """The Gram matrices of the dense model, a file a layer, for all later runs to measure with.

    Pruning nothing at all leaves the model dense, and so are the inputs that it collects.
    """

    def save(layer: PrunedLayer) -> None:
        save_file({"gram": layer.gram}, gram_file(work, layer.name))

    nothing = Unstructured(0)
    prune_model(
        model, windows, nothing, judge=None, method="magnitude", on_layer=save, progress=tell
    )


def gram_file(work: Path, layer: str) -> Path:
    """Where a layer's dense Gram matrix is kept."""
    return work / f"{layer}.safetensors"


def mask_picture(mask: Tensor) -> list[list[float]]:
    """The share of removed weights in a grid of MAP_CELLS cells."""
    pooled = torch.nn.functional.adaptive_avg_pool2d(mask.float()[None], MAP_CELLS)[0]
    return [[round(cell, 3) for cell in row] for row in pooled.tolist()]


def peak_memory() -> int:
    """The most memory that this process has held, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux: getrusage would count what the parent process held as well
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def tell(note: str, done: int, of: int) -> None:
    """Report progress to the parent process."""
    print(json.dumps([note, done, of]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
