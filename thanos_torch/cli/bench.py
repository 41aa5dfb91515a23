"""`thanos bench`: the verified benchmark suite."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import TaskID

from thanos_torch.cli.display import bars, command_line, console, progress_bar, say, table
from thanos_torch.cli.options import Device, check_device
from thanos_torch.evaluation import wheel_data
from thanos_torch.evaluation.harness import require_harness
from thanos_torch.models import DEFAULT_MODEL, load_model
from verification.benchmarks.studies.engine import JOBS
from verification.benchmarks.studies.plan import Run
from verification.benchmarks.studies.resources import Resources
from verification.benchmarks.studies.study import Study

RECORDS = "runs"  # folder in `out` with the finished runs of all studies


def bench(
    context: typer.Context,
    quick: Annotated[
        bool, typer.Option("--quick", help="Thanos, SparseGPT, refits; one small model.")
    ] = False,
    standard: Annotated[
        bool, typer.Option("--standard", help="The studies of docs/study: hours.")
    ] = False,
    paper: Annotated[
        bool, typer.Option("--paper", help="The paper's models and protocol: a GPU, a hub, days.")
    ] = False,
    study: Annotated[
        list[str] | None,
        typer.Option(help="Only this study of --standard, or model of --paper; repeatable."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be measured, and measure nothing.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with the folders c4 and wikitext2; default: from a hub."),
    ] = None,
    device: Device = "cpu",
    solver_device: Annotated[
        str, typer.Option(help="Where layers are pruned, if not on --device: cpu for small ones.")
    ] = "",
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Runs at a time, each with its share of the cores; default {JOBS}, 1 on a GPU.",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for results, pages and unfinished studies.")
    ] = Path("results/bench"),
) -> None:
    """Measure methods and patterns on real models, every layer certified.

    A study that was stopped goes on where it was. Exit status 0 means that every run was made and
    every certificate passed.
    """
    if context.invoked_subcommand:
        return
    if quick + standard + paper != 1:
        raise typer.BadParameter("say one of --quick, --standard, --paper")
    check_device(device)
    if solver_device:
        check_device(solver_device, "--solver-device")
    if data is not None and not data.is_dir():
        raise typer.BadParameter(f"{data} is no folder", param_hint="--data")
    chosen = _chosen(quick, standard, study)
    if dry_run:
        _show_plan(chosen, paper)
        return
    resources = Resources(data, out / "models", device, solver_device or device)
    jobs = jobs or (JOBS if device == "cpu" else 1)  # a GPU may not hold two models
    results = [_measure(each, out, resources, jobs) for each in chosen]
    from verification.benchmarks.pages.build import REPORT, build

    pages = build(out, out / "pages")
    for page in pages:
        say(f"{page.question} {out / 'pages' / page.name}.md")
    if pages:
        say(f"All pages to look at: {out / 'pages' / REPORT}")
    raise typer.Exit(0 if all(results) else 1)


def _chosen(quick: bool, standard: bool, names: list[str] | None) -> list[Study]:
    from verification.benchmarks.studies.paper import paper_studies
    from verification.benchmarks.studies.profiles import quick_study, standard_studies

    if quick:
        if names:
            raise typer.BadParameter("is not for --quick, which is one", param_hint="--study")
        return [quick_study()]
    studies = standard_studies() if standard else paper_studies()
    for name in names or ():
        if name not in studies:
            known = ", ".join(studies)
            raise typer.BadParameter(f"must be one of {known}, got {name!r}", param_hint="--study")
    return [studies[name] for name in names or studies]


def _show_plan(studies: list[Study], paper: bool) -> None:
    if paper:
        from verification.benchmarks.paper.needs import HEADINGS, plan_lines, plan_rows
        from verification.benchmarks.paper.plan import Protocol, paper_models

        names = {each.name for each in studies}
        models = [model for model in paper_models() if model.label in names]
        table("What --paper would measure", HEADINGS, plan_rows(Protocol(), models))
        for line in plan_lines(Protocol()):
            say(line)
        return
    from verification.benchmarks.studies.times import minutes_of

    rows = [
        [each.name, each.question, str(each.total), f"{each.minutes:.0f} min"] for each in studies
    ]
    table("What would be measured", ["study", "question", "runs", "two cores"], rows)
    hours = minutes_of(run for each in studies for run in each.runs) / 60
    say(f"About {hours:.1f} hours in all: what studies share is run once.")


def _measure(study: Study, out: Path, resources: Resources, jobs: int) -> bool:
    """Measure one study, and show what came of it; whether all of it is certified."""
    from thanos_torch.models.durable import whole_file
    from verification.benchmarks.pages.tables import HEADINGS, rows, source, verdict
    from verification.benchmarks.studies.study import RESULTS, verified

    command = command_line()
    prepared: dict[str, object] = {}
    if study.prepare:
        with progress_bar(study.name) as show:
            prepared = study.prepare(resources, show, command)
    if any(run.model == DEFAULT_MODEL for run in study.runs):
        load_model(DEFAULT_MODEL)  # downloads it if need be: set-up, not what is measured
    if any(run.evaluation.items != 0 for run in study.runs):
        require_harness()  # before hours of runs that end with it
        wheel_data()
    shown = _Bars(study.name, study.total)
    with shown.progress:
        results = study.measure(out / RECORDS, shown.show, command, resources, prepared, jobs)
    (out / study.name).mkdir(parents=True, exist_ok=True)
    with whole_file(out / study.name / RESULTS) as unfinished:  # compact: there are many layers
        unfinished.write_text(json.dumps(results, allow_nan=False) + "\n", encoding="utf-8")
    table(f"{study.name}: {study.question}", HEADINGS, rows(results))
    console.print(source(results))
    console.print(verdict(results))
    return verified(results)


class _Bars:
    """One bar for all runs, and one for each run at work."""

    def __init__(self, name: str, total: int) -> None:
        self.progress = bars()
        self._all = self.progress.add_task(name, total=total, note="")
        self._tasks: dict[str, TaskID] = {}
        self._shares: dict[str, float] = {}

    def show(self, run: Run, note: str, done: int, of: int) -> None:
        """A run reports."""
        from verification.benchmarks.studies.phases import share_done

        key = run.key
        if key not in self._tasks:
            self._tasks[key] = self.progress.add_task(key, total=1.0, note="")
        self._shares[key] = share_done(run, note, done, of)
        finished = self._shares[key] >= 1
        self.progress.update(
            self._tasks[key], completed=self._shares[key], note=note, visible=not finished
        )
        self.progress.update(self._all, completed=sum(self._shares.values()))
