"""`thanos bench`: the verified benchmark suite."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import TaskID

from thanos_torch.cli.display import bars, console, table
from thanos_torch.models import DEFAULT_DATASET, DEFAULT_MODEL, load_model
from verification.benchmarks.plan import Run, Settings
from verification.benchmarks.plan import quick as planned


def bench(
    context: typer.Context,
    quick: Annotated[
        bool, typer.Option("--quick", help="All methods and patterns on one small model.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for results.json, report.md and plots.")] = Path(
        "results/quick"
    ),
) -> None:
    """Measure every method and pattern on a real model, every layer certified.

    Exit status 0 means that every run was made and every certificate passed.
    """
    if context.invoked_subcommand:
        return
    if not quick:
        raise ValueError("bench has one profile so far: say --quick, or bench speed")
    from verification.benchmarks.plots import draw_all
    from verification.benchmarks.quick import run_quick
    from verification.benchmarks.report import HEADINGS, markdown_page, rows, source

    load_model(DEFAULT_MODEL)  # downloads it if need be: set-up, not a part of what is measured
    shown = _Bars(total=len(list(planned())) + 1)
    with shown.progress:
        results = run_quick(
            Settings(DEFAULT_MODEL, DEFAULT_DATASET),
            shown.show,
            " ".join(["thanos", *sys.argv[1:]]),
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(results, allow_nan=False) + "\n")
    (out / "report.md").write_text(markdown_page(results))
    draw_all(results, out)
    table(f"Quick benchmark: {results['runs'][0]['origin']}", HEADINGS, rows(results))
    console.print(source(results))
    verified = all(record["verified"] for record in results["runs"][1:])
    verdict = "Every" if verified else "NOT every"
    console.print(f"{verdict} layer of every run is certified. Report and plots: {out}")
    raise typer.Exit(0 if verified else 1)


class _Bars:
    """One bar for all runs, and one for each run at work."""

    def __init__(self, total: int) -> None:
        self.progress = bars()
        self._all = self.progress.add_task("all runs", total=total, note="")
        self._tasks: dict[str, TaskID] = {}
        self._shares: dict[str, float] = {}

    def show(self, run: Run, note: str, done: int, of: int) -> None:
        """A run reports: pruning is the first two thirds of it, evaluation the rest."""
        key = run.key
        if key not in self._tasks:
            self._tasks[key] = self.progress.add_task(key, total=1.0, note="")
        share = done / of
        self._shares[key] = 2 / 3 + share / 3 if note == "evaluating" else share * 2 / 3
        finished = self._shares[key] >= 1
        self.progress.update(
            self._tasks[key], completed=self._shares[key], note=note, visible=not finished
        )
        self.progress.update(self._all, completed=sum(self._shares.values()))
