"""`thanos prune`: prune a model, with a certificate for every layer."""

from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from thanos_torch.cli.display import console, progress_bar, table
from thanos_torch.cli.options import Dataset, Device, Model, Seqlen, explained, read_pattern
from thanos_torch.models import (
    DEFAULT_DATASET,
    DEFAULT_MODEL,
    calibration_windows,
    finished_run,
    load_model,
    prune_model,
    refuse_occupied,
    save_checkpoint,
)
from verification import certify

PACKAGES = ("thanos-pruning", "torch", "transformers")


def prune(
    pattern: Annotated[
        str, typer.Option(help="unstructured:0.5, 2:4, structured:0.3, 2:4+outliers:0.1, ...")
    ],
    out: Annotated[Path, typer.Option(help="New or empty folder for the pruned checkpoint.")],
    model: Model = DEFAULT_MODEL,
    method: Annotated[str, typer.Option(help="thanos, magnitude, wanda, sparsegpt")] = "thanos",
    dataset: Dataset = DEFAULT_DATASET,
    nsamples: Annotated[int, typer.Option(help="Windows to calibrate with.")] = 32,
    seqlen: Seqlen = 512,
    seed: Annotated[int, typer.Option(help="Of the choice of windows.")] = 0,
    block_size: Annotated[int, typer.Option(help="Columns in a block, B.")] = 128,
    damping: Annotated[float, typer.Option(help="Share of mean(diag G) on the diagonal.")] = 0.01,
    refit: Annotated[int, typer.Option(help="Steps to refit the kept weights afterwards.")] = 0,
    device: Device = "cpu",
    n_counts_zeros: Annotated[
        bool, typer.Option("--n-counts-zeros", help="n of n:m counts zeros: needed for n != m/2.")
    ] = False,
) -> None:
    """Prune MODEL and write a Hugging Face checkpoint, certified layer by layer.

    In n:m, n counts the ZEROS of every group of m. Exit status 0 means that every layer was
    pruned and that its certificate passed.
    """
    wanted = read_pattern(pattern, n_counts_zeros)
    settings: dict[str, Any] = {
        "model": model,
        "pattern": str(wanted),
        "method": method,
        "dataset": dataset,
        "nsamples": nsamples,
        "seqlen": seqlen,
        "seed": seed,
        "block_size": block_size,
        "damping": damping,
        "refit": refit,
    }
    record = finished_run(out, settings)
    if record:
        console.print(f"{out} holds the result of this very run already.")
    else:
        refuse_occupied(out)
        with progress_bar("loading") as show:
            show(model, 0, 1)
            loaded = load_model(model)
            windows = calibration_windows(
                loaded.tokenizer, dataset, nsamples=nsamples, seqlen=seqlen, seed=seed
            )
        with progress_bar("pruning") as show:
            report = prune_model(
                loaded.model,
                windows.ids,
                wanted,
                judge=certify,
                method=method,
                block_size=block_size,
                damping=damping,
                refit_steps=refit,
                device=device,
                progress=show,
            )
        record = {
            "settings": settings,
            "model": loaded.provenance(),
            "text": windows.provenance(),
            "versions": {name: version(name) for name in PACKAGES},
            **report.as_dict(),
        }
        save_checkpoint(loaded, out, record=record, masks=report.masks)
    _show(record, explained(wanted), out)
    raise typer.Exit(0 if record["verified"] else 1)


def _show(record: dict[str, Any], pattern: str, out: Path) -> None:
    """A table with one line for each kind of layer, and the verdict."""
    kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for layer in record["layers"]:
        kinds[layer["name"].rpartition(".")[2]].append(layer)
    rows = []
    for kind, layers in kinds.items():
        count = len(layers)
        passed = sum(layer["verified"] for layer in layers)
        weights = sum(layer["shape"][0] * layer["shape"][1] for layer in layers)
        rows.append(
            [
                f"{kind} {layers[0]['shape'][0]} x {layers[0]['shape'][1]}",
                str(count),
                f"{sum(layer['removed'] for layer in layers) / weights:.2%}",
                f"{sum(layer['relative_error'] for layer in layers) / count:.4f}",
                f"{sum(layer['seconds'] for layer in layers):.1f}",
                f"{passed} of {count}",
            ]
        )
    title = f"{record['method']}, {pattern}: {record['model']['origin']}"
    headings = ["layers", "number", "removed", "mean error", "seconds", "certified"]
    table(title, headings, rows)
    for layer in record["layers"]:
        if layer["left_dense"]:
            console.print(f"{layer['name']} was left dense: {layer['left_dense']}.")
        elif not layer["verified"]:
            console.print(f"{layer['name']}: the certificate FAILED, see {out / 'thanos.json'}.")
    seconds = ", ".join(f"{stage} {time:.0f} s" for stage, time in record["seconds"].items())
    verdict = "every layer certified" if record["verified"] else "NOT verified"
    console.print(f"{record['sparsity']:.2%} removed, {verdict}. {seconds}. Written to {out}.")
