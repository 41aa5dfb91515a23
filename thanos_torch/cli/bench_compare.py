"""`thanos bench compare`: what changed between two results files, and whether it got worse."""

from pathlib import Path
from typing import Annotated

import typer

from thanos_torch.cli.display import say, table


def compare(
    before: Annotated[Path, typer.Argument(help="Results file, or folder with results.json.")],
    after: Annotated[Path, typer.Argument(help="Another one, to compare with the first.")],
    draws: Annotated[
        Path | None,
        typer.Option(
            help="Results with several seeds a run, whose spread judges; docs/results/draws.json."
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
    from verification.benchmarks.comparing.compare import compare as compared
    from verification.benchmarks.comparing.compare import write_comparison
    from verification.benchmarks.comparing.costs import cost_regressions
    from verification.benchmarks.comparing.records import RECORDED, no_results, read_results
    from verification.benchmarks.comparing.report import HEADINGS, lines, rows

    first, second = read_results(before), read_results(after)
    draws = RECORDED if draws is None and RECORDED.exists() else draws
    recorded = read_results(draws) if draws else no_results()
    costs = [] if times is None else cost_regressions(first, second, times)
    found = compared(first, second, recorded, costs)
    if json:
        write_comparison(found, json)
    names = [f"{side.file} (commit {side.origin('commit')})" for side in (first, second)]
    table(f"{names[0]} → {names[1]}", HEADINGS, rows(found))
    for line in lines(found):
        say(line)
    raise typer.Exit(1 if found.regressions else 0)
