"""`thanos bench cost`: a cost model of pruning, checked on held-out sizes, and its predictions."""

from pathlib import Path
from typing import Annotated

import torch
import typer

from thanos_torch.cli.display import command_line, console, progress_bar, say


def cost(
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Small layers only, to see that all works: 2 minutes."),
    ] = False,
    threads: Annotated[int, typer.Option(help="Threads for torch; 0: as it finds.")] = 0,
    out: Annotated[
        Path, typer.Option(help="Folder for cost.json, cost.md and plots; progress beside it.")
    ] = Path("results/cost"),
) -> None:
    """Time layers of many sizes by stage, fit a cost model, and predict Llama 3 with it.

    A run that was stopped goes on where it was. Exit status 0 means that every time counted is
    certified, and that the model kept its bounds on sizes that it was not fitted to.
    """
    if threads < 0:
        raise ValueError(f"threads must be 0 or more, got {threads}")
    if threads:
        torch.set_num_threads(threads)
    from thanos_torch.models import DEFAULT_MODEL, load_model
    from thanos_torch.models.durable import whole_file
    from verification.benchmarks.cost.plots import draw_all
    from verification.benchmarks.cost.report import page, verdicts
    from verification.benchmarks.cost.run import run_cost

    if not quick:
        load_model(DEFAULT_MODEL)  # downloads it if need be: set-up, not a part of what is measured
    profile, command = "quick" if quick else "standard", command_line()
    with progress_bar("cost") as progress:
        results = run_cost(out, profile, command, progress)
    with whole_file(out / "cost.md") as unfinished:
        unfinished.write_text(page(results), encoding="utf-8")
    draw_all(results, out)
    found = verdicts(results)
    for what, holds, how in found:
        console.print(f"{'passed' if holds else 'FAILED'}  {what}: {how}")
    say(f"Results and plots: {out}")
    raise typer.Exit(0 if all(holds for _, holds, _ in found) else 1)
