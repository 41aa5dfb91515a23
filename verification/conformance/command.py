"""The command `thanos verify`, also `python -m verification`: judges an implementation."""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from verification.conformance.callables import PythonFunction, load_callable
from verification.conformance.capabilities import METHODS
from verification.conformance.cases import Case, load_cases
from verification.conformance.implementation import Implementation
from verification.conformance.outputs import OutputsFolder
from verification.conformance.programs import Program
from verification.conformance.text import report_text
from verification.conformance.verify import verify

USAGE = 2  # exit status if nothing was judged


def main(arguments: Sequence[str] | None = None, program: str = "python -m verification") -> int:
    """Exit status 0: every supported case passed; 1: a case failed; 2: nothing was judged."""
    parser = _parser(program)
    options = parser.parse_args(arguments)
    try:
        cases = _selected(options.only)
        if options.export:
            return _export(cases, options.export)
        implementation = _implementation(options)
    except (ValueError, OSError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return USAGE
    report = verify(implementation, cases, _progress if sys.stderr.isatty() else None)
    print(report_text(report, implementation.capabilities))
    if options.json:
        _write(options.json, json.dumps(report.as_dict(), indent=1, allow_nan=False) + "\n")
    if not report.counts["passed"] and not report.counts["failed"]:
        print(f"{program}: no case is supported: nothing was judged", file=sys.stderr)
        return USAGE
    return 0 if report.passed else 1


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description="Judge an implementation of Thanos pruning, or of one of its baselines.",
        epilog="docs/conformance.md explains it with examples.",
    )
    parser.add_argument("implementation", nargs="?", help="pkg.module:function, reference or torch")
    parser.add_argument("--command", help="a program in any language: PROGRAM INPUT OUTPUT")
    parser.add_argument("--outputs", type=Path, metavar="DIR", help="outputs made elsewhere")
    parser.add_argument("--method", default="thanos", help="method to judge, if none is declared",
                        choices=METHODS)  # fmt: skip
    parser.add_argument("--only", default="", metavar="TEXT", help="cases with TEXT in their id")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds per case of --command")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON")
    parser.add_argument("--export", type=Path, metavar="DIR",
                        help="only copy the inputs to a new folder, for --outputs")  # fmt: skip
    return parser


def _selected(text: str) -> tuple[Case, ...]:
    cases = tuple(case for case in load_cases() if text in case.id)
    if not cases:
        raise ValueError(f"only must be part of the id of a case, got {text!r}")
    return cases


def _implementation(options: argparse.Namespace) -> Implementation:
    given = [options.implementation, options.command, options.outputs]
    if sum(one is not None for one in given) != 1:
        raise ValueError("name one of: an implementation, --command, --outputs")
    if options.command is not None:
        return Program(options.command, options.method, options.timeout)
    if options.outputs is not None:
        return OutputsFolder(options.outputs, options.method)
    function = load_callable(options.implementation)
    return PythonFunction(function, options.method, options.implementation)


def _export(cases: Sequence[Case], folder: Path) -> int:
    """Copy the input files for an implementation that runs elsewhere."""
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"export must be a new or empty folder, got {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    for case in cases:
        shutil.copyfile(case.input_path, folder / case.input_path.name)
    print(f"{len(cases)} inputs in {folder}")
    return 0


def _progress(done: int, of: int) -> None:
    end = "\r" if done < of else "\r\033[K"
    print(f"  {done} of {of} cases", end=end, file=sys.stderr, flush=True)


def _write(path: Path, text: str) -> None:
    """Write a file atomically."""
    beside = path.with_name(path.name + ".new")
    beside.write_text(text)
    os.replace(beside, path)
