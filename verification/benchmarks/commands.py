"""The command `thanos bench` and its subcommands: compare, cost, inference, speed."""

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import TaskID, TimeRemainingColumn

from thanos_torch.cli.display import command_line, console, done_if, say, table
from thanos_torch.cli.options import AcceptGemmaTerms, Device, Threads, check_device
from thanos_torch.cli.progress import bars, progress_bar
from thanos_torch.evaluation import wheel_data
from thanos_torch.evaluation.zero_shot import require_harness
from thanos_torch.models import DEFAULT_MODEL, load_model
from thanos_torch.runtime.files import whole_file
from thanos_torch.runtime.threads import use_threads
from verification.benchmarks.quality.engine import JOBS, Study
from verification.benchmarks.quality.plan import Run
from verification.benchmarks.quality.records import Resources
from verification.benchmarks.results import RESULTS, write_results

RECORDS = "runs"  # folder in `out` for the finished runs of all studies


def bench(
    context: typer.Context,
    quick: Annotated[
        bool, typer.Option("--quick", help="Four methods in three patterns on one small model.")
    ] = False,
    standard: Annotated[
        bool, typer.Option("--standard", help="The studies of docs/study: hours.")
    ] = False,
    paper: Annotated[
        bool, typer.Option("--paper", help="The paper's models and protocol: a GPU, a hub, days.")
    ] = False,
    families: Annotated[
        bool, typer.Option("--families", help="Small models of newer families, three draws each.")
    ] = False,
    study: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this study of --standard, or model of --paper or --families; repeatable."
        ),
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
        str, typer.Option(help="Where layers are pruned, if not on --device: cpu for a small GPU.")
    ] = "",
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Runs at a time, each with its share of threads; default {JOBS}, 1 on a GPU.",
        ),
    ] = None,
    threads: Threads = 0,
    accept_gemma_terms: AcceptGemmaTerms = False,
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
    use_threads(threads)
    profiles = {"quick": quick, "standard": standard, "paper": paper, "families": families}
    if sum(profiles.values()) != 1:
        raise typer.BadParameter("say one of --quick, --standard, --paper, --families")
    check_device(device)
    if solver_device:
        check_device(solver_device, "--solver-device")
    if data is not None and not data.is_dir():
        raise typer.BadParameter(f"{data} is no folder", param_hint="--data")
    (profile,) = (name for name, asked in profiles.items() if asked)
    chosen = _chosen(profile, study or [])
    if data is None and not (quick or dry_run) and find_spec("datasets") is None:
        raise typer.BadParameter(
            "without it, texts come from a hub: pip install 'thanos-pruning[data]'",
            param_hint="--data",
        )
    if dry_run:
        _show_plan(profile, chosen)
        return
    if families:
        chosen = _within_reach(chosen, asked=bool(study))
    resources = Resources(data, out / "models", device, solver_device or device)
    jobs = jobs or (JOBS if device == "cpu" else 1)  # a GPU may not hold two models
    studies = [each for of_name in chosen.values() for each in of_name]
    results = [_measure(each, out, resources, jobs) for each in studies]
    from verification.benchmarks.pages.build import write_fresh

    *pages, report = write_fresh(out, out / "pages")
    for page in pages:
        say(f"Tables and pictures: {page}")
    say(f"All of them to look at: {report}")
    raise typer.Exit(done_if(all(results)))


def _chosen(profile: str, names: list[str]) -> dict[str, list[Study]]:
    """The studies of a profile by the name that `--study` has for them."""
    from verification.benchmarks.quality import profiles

    if profile == "quick" and names:
        raise typer.BadParameter("is not for --quick, which is one", param_hint="--study")
    known = profiles.by_name(profile)
    for name in names:
        if name not in known:
            raise typer.BadParameter(
                f"must be one of {', '.join(known)}, got {name!r}", param_hint="--study"
            )
    return {name: known[name] for name in names or known}


def _within_reach(chosen: dict[str, list[Study]], asked: bool) -> dict[str, list[Study]]:
    """The models of `--families` that can be loaded; names the others, and why they cannot.

    Raises ValueError if a model was asked for by name and cannot be loaded, or if none can.
    """
    from verification.benchmarks.quality.families import FAMILIES, out_of_reach

    models = [model for model in FAMILIES if model.label in chosen]
    reasons = {model.label: reason for model in models if (reason := out_of_reach(model))}
    together: dict[str, list[str]] = {}
    for label, reason in reasons.items():
        together.setdefault(reason, []).append(label)
    lines = [f"left out: {', '.join(labels)}: {reason}" for reason, labels in together.items()]
    if lines and (asked or len(reasons) == len(chosen)):
        raise ValueError("\n".join(lines))
    for line in lines:
        say(line)
    return {label: studies for label, studies in chosen.items() if label not in reasons}


def _show_plan(profile: str, chosen: dict[str, list[Study]]) -> None:
    if profile == "paper":
        from verification.benchmarks.quality.paper_plan import (
            HEADINGS,
            Protocol,
            paper_models,
            plan_lines,
            plan_rows,
        )

        models = [model for model in paper_models() if model.label in chosen]
        table("What --paper would measure", HEADINGS, plan_rows(Protocol(), models))
        for line in plan_lines(Protocol()):
            say(line)
        return
    if profile == "families":
        from verification.benchmarks.quality import families

        rows = families.plan_rows(model for model in families.FAMILIES if model.label in chosen)
        table("What --families would measure", families.HEADINGS, rows)
        for line in families.plan_lines():
            say(line)
        return
    from verification.benchmarks.quality.profiles import minutes_of

    studies = [each for of_name in chosen.values() for each in of_name]
    rows = [
        [each.name, each.question, str(each.total), f"{each.minutes:.0f} min"] for each in studies
    ]
    table("What would be measured", ["study", "question", "runs", "two cores"], rows)
    hours = minutes_of(run for each in studies for run in each.runs) / 60
    say(f"About {hours:.1f} hours in all: what studies share is run once.")


def _measure(study: Study, out: Path, resources: Resources, jobs: int) -> bool:
    """Measure one study, write and show its results; returns whether everything is certified."""
    from verification.benchmarks.pages.studies import StudyRuns
    from verification.benchmarks.pages.tables import RUN_HEADINGS, run_rows, source_line
    from verification.benchmarks.quality.engine import verified

    command = command_line()
    if any(run.model == DEFAULT_MODEL for run in study.runs):
        load_model(DEFAULT_MODEL)  # downloads it if need be: set-up, not what is measured
    if any(run.evaluation.items != 0 for run in study.runs):
        require_harness()  # before hours of runs that end with it
        wheel_data()
    shown = _Bars(study.name, study.total)
    with shown.progress:
        results = study.measure(out / RECORDS, shown.show, command, resources, jobs)
    write_results(out / study.name / RESULTS, results)
    table(f"{study.name}: {study.question}", RUN_HEADINGS, run_rows(StudyRuns((results,))))
    console.print(source_line(results, results["runs"]))
    console.print(f"Every layer certified: {'yes' if verified(results) else 'NO'}.")
    return verified(results)


class _Bars:
    """A progress bar for all runs of a study, and one for each run at work."""

    def __init__(self, name: str, total: int) -> None:
        self.progress = bars(TimeRemainingColumn())
        self._all = self.progress.add_task(name, total=total, note="")
        self._tasks: dict[str, TaskID] = {}
        self._shares: dict[str, float] = {}

    def show(self, run: Run, note: str, done: int, of: int) -> None:
        """Show the progress of a run; see `engine.measure`."""
        from verification.benchmarks.quality.engine import share_done

        key = run.key
        if key not in self._tasks:
            self._tasks[key] = self.progress.add_task(key, total=1.0, note="")
        self._shares[key] = share_done(run, note, done, of)
        finished = self._shares[key] >= 1
        self.progress.update(
            self._tasks[key], completed=self._shares[key], note=note, visible=not finished
        )
        self.progress.update(self._all, completed=sum(self._shares.values()))


def compare(
    before: Annotated[Path, typer.Argument(help="Results file, or folder with results.json.")],
    after: Annotated[Path, typer.Argument(help="Another one, to compare with the first.")],
    draws: Annotated[
        list[Path] | None,
        typer.Option(
            help="Results with several seeds a run, whose spread judges other seeds; repeatable. "
            "Default: docs/results/draws*.json of a checkout."
        ),
    ] = None,
    times: Annotated[
        float | None,
        typer.Option(help="Share by which pruning time and memory may grow, on one machine."),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="File to write the comparison to.")] = None,
) -> None:
    """Compare two results of `thanos bench`: layer errors, perplexity, certificates, cost.

    Exit status 1 means that something got worse by more than noise, or was lost.
    """
    from verification.benchmarks.comparing.compare import (
        HEADINGS,
        lines,
        rows,
    )
    from verification.benchmarks.comparing.compare import compare as compared
    from verification.benchmarks.results import RECORDED, read_draws, read_results

    first, second = read_results(before), read_results(after)
    found = compared(first, second, read_draws(draws or RECORDED), times)
    if json:
        write_results(json, found.as_dict(), indent=1)
    names = [f"{side.file} (commit {side.content.get('commit')})" for side in (first, second)]
    table(f"{names[0]} → {names[1]}", HEADINGS, rows(found))
    for line in lines(found):
        say(line)
    raise typer.Exit(done_if(not found.regressions))


def cost(
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Small layers only, to see that all works: 2 minutes."),
    ] = False,
    threads: Threads = 0,
    out: Annotated[
        Path, typer.Option(help="Folder for cost.json, cost.md, cost.png; progress beside it.")
    ] = Path("results/cost"),
) -> None:
    """Time layers of many sizes, fit a cost model, and predict Llama 3 with it.

    A run that was stopped goes on where it was. Exit status 0 means that every time counted is
    certified, and that the model kept its bounds on sizes that it was not fitted to.
    """
    use_threads(threads)
    from verification.benchmarks.pages.cost import COST
    from verification.benchmarks.pages.studies import Results
    from verification.benchmarks.performance.cost import promises, run_cost

    if not quick:
        load_model(DEFAULT_MODEL)  # downloads it if need be: set-up, which is not measured
    profile, command = "quick" if quick else "standard", command_line()
    with progress_bar("cost") as progress:
        results = run_cost(out, profile, command, progress)
    _write_page(out / "cost.md", COST.bare(Results(out), out))
    holds = _show_verdicts(promises(results))
    say(f"Results, tables and picture: {out}")
    raise typer.Exit(done_if(holds))


def inference(
    model: Annotated[
        str,
        typer.Argument(help="As for thanos prune; or a folder that it wrote, measured as it is."),
    ] = DEFAULT_MODEL,
    quick: Annotated[
        bool, typer.Option("--quick", help="One pattern, two layers, few repeats.")
    ] = False,
    threads: Threads = 0,
    device: Device = "cpu",
    accept_gemma_terms: AcceptGemmaTerms = False,
    out: Annotated[Path, typer.Option(help="Folder for inference.json, pages and plots.")] = Path(
        "results/inference"
    ),
) -> None:
    """Measure latency, memory and bytes of a pruned model in every form that can be run.

    Exit status 0 means that everything was measured and every layer of the models certified.
    """
    use_threads(threads)
    check_device(device)
    from verification.benchmarks.inference.run import QUICK, STANDARD, run_inference
    from verification.benchmarks.pages import inference as pages
    from verification.benchmarks.pages.build import write_fresh

    load_model(model)  # downloads it if need be: set-up, which is not measured
    settings = replace(QUICK if quick else STANDARD, device=device)
    command = command_line()
    with progress_bar("inference") as progress:
        profile = "quick" if quick else "standard"
        results = run_inference(model, settings, progress, command, profile)
    write_results(out / "inference.json", results)
    write_fresh(out, out)
    table("Single layers", pages.LAYER_HEADINGS, pages.layer_rows(results))
    table(model, pages.MODEL_HEADINGS, pages.model_rows(results))
    table("Bytes", pages.SIZE_HEADINGS, [*pages.size_rows(results)])
    say(f"Results, tables and pictures: {out}")
    raise typer.Exit(done_if(all(run.get("verified", True) for run in results["runs"])))


def speed(
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Fewer wide layers and blocks of the model: 5 minutes."),
    ] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda (layers only).")] = "cpu",
    predict: Annotated[
        bool,
        typer.Option(
            "--predict", help="Of cuda: count the work, and print what a card would take."
        ),
    ] = False,
    card: Annotated[
        str, typer.Option(help="Of --predict: a card by its name, such as H200; default: five.")
    ] = "",
    threads: Threads = 0,
    out: Annotated[Path, typer.Option(help="Folder for results, tables and picture.")] = Path(
        "results/speed"
    ),
) -> None:
    """Time Thanos in units of matrix products, and every time with a certificate.

    On a GPU in seconds, beside the card's limit and the published procedures. Exit status 0 means
    that all limits are kept.
    """
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device must be cpu or cuda, got {device!r}")
    if device == "cpu" and (predict or card):
        raise ValueError("predict and card are for --device cuda")
    if card and not predict:
        raise ValueError("card is for --predict")
    if predict:
        _predict_speed(card, out)
        return
    if device == "cuda":
        if not torch.cuda.is_available():
            raise ValueError("device must be cpu where torch finds no CUDA; --predict needs none")
        raise typer.Exit(done_if(_device_speed(out)))
    use_threads(threads)
    from verification.benchmarks.pages.cost import SPEED, SPEED_HEADINGS, speed_rows
    from verification.benchmarks.pages.studies import Results
    from verification.benchmarks.performance.speed import promises, run_speed

    load_model(DEFAULT_MODEL)  # downloads it if need be: set-up, which is not measured
    with progress_bar("speed") as progress:
        results = run_speed(quick, command_line(), progress)
    write_results(out / "speed.json", results)
    _write_page(out / "speed.md", SPEED.bare(Results(out), out))
    table("Cost of pruning a layer", SPEED_HEADINGS, list(speed_rows(results)))
    holds = _show_verdicts(promises(results))
    say(f"Results, tables and picture: {out}")
    raise typer.Exit(done_if(holds))


def _device_speed(out: Path) -> bool:
    """Time layers on a GPU; returns whether all promises hold."""
    from verification.benchmarks.pages.gpu import MEASURED_HEADINGS, measured_rows
    from verification.benchmarks.performance.counted import SHAPES
    from verification.benchmarks.performance.device_speed import LAYERS, measure_layers, promises

    torch.backends.cuda.matmul.allow_tf32 = False
    with progress_bar("speed") as progress:
        results = measure_layers(
            "cuda",
            SHAPES,
            command_line(),
            progress,
            save=lambda found: write_results(out / LAYERS, found, indent=1),
        )
    table(f"Layers on {results['card']['name']}", MEASURED_HEADINGS, [*measured_rows(results)])
    say(f"Results: {out / LAYERS}")
    return _show_verdicts(promises(results))


def _predict_speed(card: str, out: Path) -> None:
    """Print what layers and Llama-3 8B would take on one card or all."""
    from verification.benchmarks.pages import gpu as pages
    from verification.benchmarks.performance.counted import PREDICTED, predict
    from verification.benchmarks.performance.roofline import CARDS, card_named

    cards = [card_named(card)] if card else CARDS
    with progress_bar("counting") as progress:
        results = predict(cards, command_line(), progress)
    write_results(out / PREDICTED, results, indent=1)
    names = [each.name for each in cards]
    rows = [*pages.layer_rows(results, names[0])]
    table(f"PREDICTED, one layer on {names[0]}", pages.LAYER_HEADINGS, rows)
    model = results["models"][0]
    title = f"PREDICTED, all {model['layers']} layers of {model['model']}"
    table(title, pages.model_headings(names), [*pages.model_rows(results)])
    say(pages.assumptions(results))
    say(f"Results: {out / PREDICTED}")


def _write_page(file: Path, text: str) -> None:
    with whole_file(file) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def _show_verdicts(verdicts: list[tuple[str, bool, str]]) -> bool:
    """Print each promise and whether it holds; returns whether all of them hold."""
    for what, holds, how in verdicts:
        console.print(f"{'passed' if holds else 'FAILED'}  {what}: {how}")
    return all(holds for _, holds, _ in verdicts)


# The command `bench` of the program `thanos`. In its help each command has one line.
app = typer.Typer(
    rich_markup_mode=None, short_help="Measure methods on real models, every layer certified."
)
app.callback(invoke_without_command=True)(bench)
COMMANDS: dict[Callable[..., None], str] = {
    speed: "Time Thanos in units of matrix products, or on a GPU.",
    compare: "Compare two results: what got worse by more than noise.",
    cost: "Time layers of many sizes, and fit a cost model.",
    inference: "Measure latency, memory and bytes of pruned models.",
}
for command, line in COMMANDS.items():
    app.command(short_help=line)(command)
