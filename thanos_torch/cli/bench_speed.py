"""`thanos bench speed`: what pruning a layer costs, with a pass or fail for every promise."""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from thanos_torch.cli.display import command_line, console, progress_bar, say, table
from thanos_torch.models import DEFAULT_MODEL, load_model


def speed(
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Fewer repeats; every fifth block of the model: 5 minutes."),
    ] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda (layers only).")] = "cpu",
    threads: Annotated[int, typer.Option(help="Threads for torch; 0: as it finds.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for speed.json, speed.md, speed.png.")] = Path(
        "results/speed"
    ),
) -> None:
    """Time Thanos in units of matrix products, and every time with a certificate.

    Exit status 0 means that all limits are kept.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device must be cpu where torch finds no CUDA, got 'cuda'")
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device must be cpu or cuda, got {device!r}")
    if threads < 0:
        raise ValueError(f"threads must be 0 or more, got {threads}")
    if threads:
        torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    from verification.benchmarks.speed.plots import draw
    from verification.benchmarks.speed.report import HEADINGS, page, rows, verdicts
    from verification.benchmarks.speed.run import run_speed

    load_model(DEFAULT_MODEL)  # downloads it if need be: set-up, not a part of what is measured
    with progress_bar("speed") as progress:
        results = run_speed(quick, device, command_line(), progress)
    out.mkdir(parents=True, exist_ok=True)
    (out / "speed.json").write_text(json.dumps(results, allow_nan=False) + "\n")
    (out / "speed.md").write_text(page(results))
    draw(results, out / "speed.png")
    table("Cost of pruning a layer, in products of b x b by b x b", HEADINGS, rows(results))
    found = verdicts(results)
    for what, holds, how in found:
        console.print(f"{'passed' if holds else 'FAILED'}  {what}: {how}")
    say(f"Results and plot: {out}")
    raise typer.Exit(0 if all(holds for _, holds, _ in found) else 1)
