"""`thanos bench inference`: pruned models at work, in every form."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from thanos_torch.cli.display import command_line, progress_bar, say, table
from thanos_torch.cli.options import Device, check_device
from thanos_torch.models import DEFAULT_MODEL, load_model


def inference(
    model: Annotated[
        str,
        typer.Argument(help="As for thanos prune; or a folder that it wrote, measured as it is."),
    ] = DEFAULT_MODEL,
    quick: Annotated[
        bool, typer.Option("--quick", help="One pattern, two layers, few repeats.")
    ] = False,
    threads: Annotated[int, typer.Option(help="Threads for torch; 0: a thread a core.")] = 0,
    device: Device = "cpu",
    out: Annotated[Path, typer.Option(help="Folder for inference.json, pages and plots.")] = Path(
        "results/inference"
    ),
) -> None:
    """Measure latency, memory and bytes of a pruned model in every form that can be run.

    Exit status 0 means that everything was measured and every layer of the models certified.
    """
    if threads < 0:
        raise ValueError(f"threads must be 0 or more, got {threads}")
    check_device(device)
    from verification.benchmarks.inference import size
    from verification.benchmarks.inference.plots import draw, draw_sizes
    from verification.benchmarks.inference.report import (
        LAYER_HEADINGS,
        MODEL_HEADINGS,
        answers,
        layer_rows,
        model_rows,
        page,
    )
    from verification.benchmarks.inference.run import QUICK, STANDARD, run_inference

    load_model(model)  # downloads it if need be: set-up, not a part of what is measured
    settings = replace(QUICK if quick else STANDARD, threads=threads, device=device)
    command = command_line()
    with progress_bar("inference") as progress:
        profile = "quick" if quick else "standard"
        results = run_inference(model, settings, progress, command, profile)
    out.mkdir(parents=True, exist_ok=True)
    (out / "inference.json").write_text(json.dumps(results, allow_nan=False) + "\n")
    (out / "inference.md").write_text(page(results))
    draw(results, out / "inference.png")
    (out / "size.md").write_text(size.page(results))
    draw_sizes(results, out / "size.png")
    table("Single layers", LAYER_HEADINGS, layer_rows(results))
    table(model, MODEL_HEADINGS, model_rows(results))
    table("Bytes", size.HEADINGS, size.rows(results))
    for line in (*answers(results), *size.answers(results)):
        say(line)
    say(f"Results, page and plot: {out}")
    raise typer.Exit(0 if all(run.get("verified", True) for run in results["runs"]) else 1)
