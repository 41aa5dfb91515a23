"""`thanos bench compare`: what changed between two results files, and whether it got worse."""

from pathlib import Path
from typing import Annotated

import typer

from thanos_torch.cli.display import say, table


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
    from verification.benchmarks.comparing.compare import compare as compared
    from verification.benchmarks.comparing.compare import write_comparison
    from verification.benchmarks.comparing.costs import cost_regressions
    from verification.benchmarks.comparing.records import RECORDED, read_draws, read_results
    from verification.benchmarks.comparing.report import HEADINGS, lines, rows

    first, second = read_results(before), read_results(after)
    recorded = read_draws(draws or RECORDED)
    costs = [] if times is None else cost_regressions(first, second, times)
    found = compared(first, second, recorded, costs)
    if json:
        write_comparison(found, json)
    names = [f"{side.file} (commit {side.origin('commit')})" for side in (first, second)]
    table(f"{names[0]} → {names[1]}", HEADINGS, rows(found))
    for line in lines(found):
        say(line)
    raise typer.Exit(1 if found.regressions else 0)
