"""`python -m verification.mutants`: every mutant of the reference must be killed or explained."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from verification.mutants.equivalent import known_survivor
from verification.mutants.mutant import Mutant
from verification.mutants.package import sources
from verification.mutants.results import ROOT, MutantResults, fingerprint
from verification.mutants.running import LIMIT, run
from verification.mutants.scope import MODULES, selected
from verification.mutants.trials import trials

UNCHANGED = Mutant("none", "update", "none", "", "", "", sources()["update"])
OUT = ROOT / "docs" / "results" / "mutants.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0: all mutants are killed or explained; 1: some are not; 2: usage error."""
    options = _parser().parse_args(arguments)
    command = " ".join(["python -m verification.mutants", *(arguments or sys.argv[1:])])
    try:
        if options.jobs < 1:
            raise ValueError(f"jobs must be at least 1, got {options.jobs}")
        mutants = selected(options.modules.split(","))
        results = MutantResults(options.out, command, fingerprint(), options.fresh)
    except (ValueError, OSError) as error:
        print(f"verification.mutants: {error}", file=sys.stderr)
        return 2
    waiting = [mutant for mutant in mutants if mutant not in results]
    print(f"{len(mutants)} mutants, {len(mutants) - len(waiting)} of them known", flush=True)
    cases = trials() if waiting else ()
    for _, right in run([UNCHANGED] if waiting else [], cases, limit=10 * LIMIT):
        if right.status != "survived":
            print(f"verification.mutants: the reference itself is {right}", file=sys.stderr)
            return 2
    for mutant, outcome in run(waiting, cases, options.jobs):
        results.add(mutant, outcome)
        if outcome.status != "killed":
            print(f"{outcome.status} {mutant.id} {' '.join(outcome.checks)}", flush=True)
    results.explain_again(mutants)
    return report(results, mutants)


def report(results: MutantResults, mutants: Sequence[Mutant]) -> int:
    """Print counts and unexplained survivors; returns the exit status."""
    for what, numbers in (("", results.counts()), ("killed by ", results.killed_by())):
        for name, count in numbers.items():
            print(f"{count:6} {what}{name}")
    for name, entry in results.unexplained().items():
        print(f"\n{entry['status']}, unexplained: {name} in {entry['function']}")
        print(f"- {entry['before']}\n+ {entry['after']}")
    wrong = [m.id for m in mutants if known_survivor(m) and results.status(m) != "survived"]
    for name in wrong:
        print(f"\nexplained, but it did not survive: {name}")
    return 1 if results.unexplained() or wrong else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m verification.mutants", description=__doc__)
    parser.add_argument(
        "--modules", default=",".join(MODULES), help="comma-separated, of reference"
    )
    parser.add_argument("--jobs", type=int, default=2, help="number of mutants judged at a time")
    parser.add_argument("--out", type=Path, default=OUT, help="the results file")
    parser.add_argument("--fresh", action="store_true", help="judge known mutants again")
    return parser


if __name__ == "__main__":
    sys.exit(main())
