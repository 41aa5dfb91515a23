"""The command `thanos verify`, also `python -m verification`: judges an implementation."""

import argparse
import json
import os
import random
import secrets
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from reference.threads import number_variables
from verification.conformance.capabilities import METHODS
from verification.conformance.cases import TIERS, Case, load_cases
from verification.conformance.implementation import TIMEOUT, Implementation
from verification.conformance.isolated import python_function
from verification.conformance.markdown import report_markdown
from verification.conformance.outputs import OutputsFolder
from verification.conformance.programs import Program
from verification.conformance.served import ServedProgram
from verification.conformance.text import printable, report_text
from verification.conformance.verify import verify
from verification.conformance.xfails import NONE_EXPECTED, Xfails, read_xfails
from verification.fresh import fresh_cases, fresh_ids, possible_ids
from verification.writing import write_text

USAGE = 2  # exit status if nothing was judged
FORMATS = {"text": report_text, "markdown": report_markdown}


def main(arguments: Sequence[str] | None = None, program: str = "python -m verification") -> int:
    """Exit status 0: every supported case passed; 1: a case failed; 2: nothing was judged."""
    options = _parser(program).parse_args(arguments)
    try:
        os.environ.update(number_variables(options.threads))  # processes under test inherit them
        seed = secrets.randbelow(10**9) if options.seed is None else options.seed
        if options.json and options.json.is_dir():
            raise ValueError(f"json must be a file, got the folder {options.json}")
        if options.json and not options.json.absolute().parent.is_dir():
            raise ValueError(f"json must lie in a folder that exists, got {options.json}")
        if options.export:
            return _export(_selected(seed, options.only, options.tier), options.export, seed)
        xfails = _xfails(options.xfails)
        implementation = _implementation(options, seed)
        with closing(implementation):
            cases = _selected(seed, options.only, options.tier)
            progress = _progress if sys.stderr.isatty() else None
            report = verify(implementation, cases, seed, progress, xfails)
            report = replace(report, tier=options.tier)
    except (ValueError, OSError) as error:
        return _complain(program, error)
    print(FORMATS[options.format](report, implementation.capabilities))
    if options.json:
        try:
            write_text(options.json, json.dumps(report.as_dict(), indent=1, allow_nan=False) + "\n")
        except OSError as error:
            return _complain(program, f"json cannot be written: {error}")
    if not any(report.counts[state] for state in ("passed", "failed", "expected failures")):
        return _complain(program, "no case is supported: nothing was judged")
    return 0 if report.passed else 1


def _complain(program: str, error: object) -> int:
    print(printable(f"{program}: {error}"), file=sys.stderr)
    return USAGE


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description="Judge an implementation of Thanos pruning, or of one of its baselines.",
        epilog="docs/conformance.md explains it with examples.",
    )
    parser.add_argument("implementation", nargs="?", help="pkg.module:function, reference or torch")
    parser.add_argument("--command", help="a program in any language: PROGRAM INPUT OUTPUT")
    parser.add_argument("--serve", action="store_true",
                        help="start PROGRAM --serve once and ask it case after case")  # fmt: skip
    parser.add_argument("--outputs", type=Path, metavar="DIR", help="outputs made elsewhere")
    parser.add_argument("--method", default="thanos", help="method to judge, if none is declared",
                        choices=METHODS)  # fmt: skip
    parser.add_argument("--only", default="", metavar="TEXT", help="cases with TEXT in their id")
    parser.add_argument("--tier", choices=TIERS, default=TIERS[-1],
                        help="first-five: to start with; core: Thanos in float64, one case a rule; "
                        "all: every vector, and fresh cases (default)")  # fmt: skip
    parser.add_argument("--xfails", type=Path, metavar="FILE",
                        help="ids or patterns of cases that are known to fail")  # fmt: skip
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds per case")
    parser.add_argument("--threads", type=int, default=0, metavar="N",
                        help="threads of the implementation; 0: as it chooses")  # fmt: skip
    parser.add_argument("--seed", type=int, metavar="N",
                        help="draw the fresh cases of an earlier run")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON")
    parser.add_argument("--format", choices=FORMATS, default="text",
                        help="of the report: markdown is for the summaries of CI jobs")  # fmt: skip
    parser.add_argument("--export", type=Path, metavar="DIR",
                        help="only write the inputs to a new folder, for --outputs")  # fmt: skip
    return parser


def _selected(seed: int, text: str, tier: str) -> tuple[Case, ...]:
    known = (case for case in load_cases() if text in case.id and case.is_in(tier))
    fresh = fresh_cases(seed, text) if tier == TIERS[-1] else ()
    selected = (*known, *fresh)
    if not selected:
        raise ValueError(f"only must be part of the id of a case in tier {tier}, got {text!r}")
    return selected


def _xfails(path: Path | None) -> Xfails:
    if path is None:
        return NONE_EXPECTED
    return read_xfails(path, possible_ids().union(case.id for case in load_cases()))


def _implementation(options: argparse.Namespace, seed: int) -> Implementation:
    given = [options.implementation, options.command, options.outputs]
    if sum(one is not None for one in given) != 1:
        raise ValueError("name one of: an implementation, --command, --outputs")
    if options.serve and options.command is None:
        raise ValueError("serve needs --command: the program that answers many cases")
    if options.command is not None:
        way_in = ServedProgram if options.serve else Program
        return way_in(options.command, options.method, options.timeout)
    if options.outputs is not None:
        if options.seed is None:
            raise ValueError("outputs need --seed: the one that --export printed")
        return OutputsFolder(options.outputs, options.method, shuffled_names(seed))
    return python_function(options.implementation, options.method, options.timeout)


def shuffled_names(seed: int) -> dict[str, str]:
    """A number for the id of every case, which says nothing about the case."""
    ids = (*(case.id for case in load_cases()), *fresh_ids(seed))
    order = random.Random(f"{seed}/names").sample(range(len(ids)), len(ids))
    return {name: f"{number:04d}" for name, number in zip(ids, order, strict=True)}


def _export(cases: Sequence[Case], folder: Path, seed: int) -> int:
    """Write the input files for an implementation that runs elsewhere."""
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"export must be a new or empty folder, got {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    names = shuffled_names(seed)
    for case in cases:
        case.write_input(folder / f"{names[case.id]}.safetensors")
    print(f"{len(cases)} inputs in {folder}")
    print(f"judge the outputs with --outputs FOLDER --seed {seed}")
    return 0


def _progress(done: int, of: int) -> None:
    end = "\r" if done < of else "\r\033[K"
    print(f"  {done} of {of} cases", end=end, file=sys.stderr, flush=True)
