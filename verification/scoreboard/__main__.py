"""`python -m verification.scoreboard FOLDER`, also `make scoreboard FOLDER=...`."""

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from verification.benchmarks.environment import environment
from verification.conformance.cases import load_cases
from verification.conformance.text import printable, report_text
from verification.fresh import fresh_cases
from verification.scoreboard.badges import BADGES, write_badges
from verification.scoreboard.implementations import LIST, Listed, read_list
from verification.scoreboard.judging import function_of, judged, row_of
from verification.scoreboard.record import RESULTS, merged, read_record, write_record
from verification.scoreboard.sources import Folder, Lack

SEED = 20_250_405  # of the fresh cases, the same for every row and run
TIMEOUT = 30.0  # seconds a case
LACKING = 2  # exit status if a source or environment was not found


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0: all was judged; 2: something was not found, cannot run, or is bad input."""
    options = _parser().parse_args(arguments)
    try:
        listed = read_list(options.list)
        rows = _selected(listed, options.only)
        folder = Folder(options.folder)
        lacks = folder.lacks(rows)
        if options.commands:
            print("\n".join(command for lack in lacks for command in lack.commands))
            return 0
        found = [row for row in rows if not folder.lacks([row])]
        if options.case:
            _show(found, folder, options)
            broken = []
        else:
            broken = _record(found, listed, folder, options)
    except (ValueError, OSError) as error:
        print(printable(f"scoreboard: {error}"), file=sys.stderr)
        return LACKING
    _complain(lacks, [row for row in rows if row not in found])
    return LACKING if lacks or broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m verification.scoreboard",
        description="Judge public implementations by their own code, and record who passes.",
        epilog="docs/scoreboard.md explains it.",
    )
    parser.add_argument("folder", type=Path, help="their sources and environments")
    parser.add_argument("--only", action="append", metavar="NAME", default=[],
                        help="judge this implementation; may be given again")  # fmt: skip
    parser.add_argument("--commands", action="store_true",
                        help="only print the commands that get what is missing")  # fmt: skip
    parser.add_argument("--case", metavar="TEXT",
                        help="print the judge's report on cases with TEXT in their id, "
                             "and record nothing")  # fmt: skip
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file")
    parser.add_argument(
        "--badges",
        type=Path,
        metavar="DIR",
        help="folder of the badges; by default those of the default --out",
    )
    parser.add_argument("--list", type=Path, default=LIST, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=SEED, help="of the fresh cases")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds a case")
    return parser


def _selected(listed: Sequence[Listed], names: Sequence[str]) -> list[Listed]:
    known = [row.name for row in listed]
    for name in names:
        if name not in known:
            raise ValueError(f"only must be one of {', '.join(known)}, got {name!r}")
    return [row for row in listed if not names or row.name in names]


def _record(
    rows: Sequence[Listed], listed: Sequence[Listed], folder: Folder, options: argparse.Namespace
) -> list[str]:
    """Judge the rows, and put each into the results file as soon as it is done.

    Returns the names of those that cannot be imported: they keep the row that they had.
    """
    content, broken = read_record(options.out), []
    here = environment()  # before a row is written, which the commit does not have
    badges = options.badges or (BADGES if options.out == RESULTS else None)
    for row in rows:
        try:
            fresh = _judged_row(row, folder, options, here)
        except ValueError as error:
            print(printable(f"{row.name}: not judged: {error}"), file=sys.stderr)
            broken.append(row.name)
            continue
        content = merged(content, [fresh], listed, "make scoreboard", here)
        write_record(options.out, content)
        if badges:
            write_badges(content, badges)
    return broken


def _judged_row(
    row: Listed, folder: Folder, options: argparse.Namespace, here: dict[str, Any]
) -> dict[str, Any]:
    """Judge one implementation. Raises ValueError if it cannot be imported."""
    started = time.perf_counter()
    cases = [case for case in (*load_cases(), *fresh_cases(options.seed, ""))
             if case.method in row.methods]  # fmt: skip
    with closing(function_of(row, folder, options.timeout)) as implementation:
        report = judged(row, implementation, cases, options.seed, _progress(row.name))
        found = row_of(row, report, implementation.capabilities)
    counts = found["counts"]
    print(f"{row.name}: " + ", ".join(f"{number} {state}" for state, number in counts.items()))
    return {
        **found,
        "source": folder.origin(row.source) if row.source else None,
        "versions": folder.versions(row.source.environment) if row.source else None,
        "judged": {
            **{name: here[name] for name in ("commit", "date", "machine")},
            "seed": options.seed,
            "seconds": round(time.perf_counter() - started, 1),
        },
    }


def _show(rows: Sequence[Listed], folder: Folder, options: argparse.Namespace) -> None:
    """Print the judge's report on some cases. Raises ValueError if no row has such a case."""
    known = (*load_cases(), *fresh_cases(options.seed, options.case))
    cases = [case for case in known if options.case in case.id]
    shown = 0
    for row in rows:
        own = [case for case in cases if case.method in row.methods]
        if not own:
            continue
        shown += 1
        with closing(function_of(row, folder, options.timeout)) as implementation:
            report = judged(row, implementation, own, options.seed)
            print(report_text(report, implementation.capabilities))
    if rows and not shown:
        raise ValueError(f"case must be part of the id of a case, got {options.case!r}")


def _complain(lacks: Sequence[Lack], rows: Sequence[Listed]) -> None:
    """Say what was not found, what was not judged for that, and how to get it."""
    if not lacks:
        return
    print("Not found:", file=sys.stderr)
    for lack in lacks:
        print(f"  {lack.what}", file=sys.stderr)
        for command in lack.commands:
            print(f"      {command}", file=sys.stderr)
    print(f"Not judged: {', '.join(row.name for row in rows)}", file=sys.stderr)


def _progress(name: str) -> Any:
    if not sys.stderr.isatty():
        return lambda done, of: None

    def shown(done: int, of: int) -> None:
        end = "\r" if done < of else "\r\033[K"
        print(f"  {name}: {done} of {of} cases", end=end, file=sys.stderr, flush=True)

    return shown


if __name__ == "__main__":
    sys.exit(main())
