"""Judges one implementation of the list on all cases of its methods."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from verification.conformance.capabilities import Capabilities, pattern_kinds
from verification.conformance.cases import Case
from verification.conformance.implementation import Implementation
from verification.conformance.isolated import Interpreter, IsolatedFunction
from verification.conformance.judge import Verdict, judge
from verification.conformance.verify import Failure, Report, explained
from verification.scoreboard.implementations import Listed
from verification.scoreboard.sources import Folder

ROOT = Path(__file__).parents[2]
IMPORT_TIMEOUT = 300.0  # seconds; torch and a library on top of it
# No GPU, so that everybody is judged on the same device, and one thread, so that runs repeat.
VARIABLES = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
# Checks in the order of cause and effect: the first one that fails names the kind of a failure.
CAUSES = (
    "output", "input", "layout", "refusals", "finite", "storage", "outliers", "counts", "zeros",
    "masks", "vector mask", "kept", "updates", "replay", "vector weights", "losses",
)  # fmt: skip
STATES = ("supported", "passed", "failed", "not decidable", "not supported")


def function_of(row: Listed, folder: Folder | None, timeout: float) -> Implementation:
    """The adapter of a row in the environment of its source.

    folder  None for implementations of this project
    Raises ValueError if it cannot be imported.
    """
    interpreter = Interpreter(variables=VARIABLES, import_timeout=IMPORT_TIMEOUT)
    if row.source:
        assert folder
        code = [str(folder.code(row.source))] if row.source.repository else []
        python = str(folder.python(row.source.environment))
        interpreter = replace(interpreter, executable=python, path=[str(ROOT), *code])
    return IsolatedFunction(row.function, row.methods[0], timeout, interpreter)


def judged(
    row: Listed,
    implementation: Implementation,
    cases: Sequence[Case],
    seed: int,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Report:
    """Verdicts on all cases of a row's methods.

    Only the checks that count for the row are kept. Failures of a row with few of them have no
    explanations, because these compare all checks.
    """
    verdicts = []
    for done, case in enumerate(cases):
        progress(done, len(cases))
        verdict = judge(case, implementation)
        if row.checks:
            kept = tuple(check for check in verdict.checks if check.name in row.checks)
            verdict = replace(verdict, checks=kept)
        verdicts.append(verdict)
    progress(len(cases), len(cases))
    return explained(implementation, verdicts, seed, search=not row.checks)


def row_of(row: Listed, report: Report, capabilities: Capabilities) -> dict[str, Any]:
    """What the results file holds of one implementation."""
    return {
        "name": row.name,
        "methods": list(row.methods),
        "judged_for": row.judged_for,
        "checks": list(row.checks),
        "declared": {
            "patterns": list(capabilities.patterns),
            "dtypes": list(capabilities.dtypes),
            "storage": list(capabilities.storage),
            "refusals": capabilities.refusals,
            "arithmetic": capabilities.arithmetic,
        },
        "counts": _tally(report.verdicts),
        "patterns": {
            kind: _tally([v for v in report.verdicts if kind_of(v.case) == kind])
            for kind in dict.fromkeys(kind_of(verdict.case) for verdict in report.verdicts)
        },
        "not_supported_because": dict(
            Counter(v.unsupported for v in report.verdicts if v.unsupported).most_common()
        ),
        "cases_by_checks": _by_checks(report.failures),
        "deviations": list(_deviations(report.failures)),
    }


def kind_of(case: Case) -> str:
    """The kind of a case's pattern, or "refusal"."""
    return "refusal" if case.expected == "refusal" else pattern_kinds(case.pattern)[0]


def _tally(verdicts: Sequence[Verdict]) -> dict[str, int]:
    supported = [verdict for verdict in verdicts if not verdict.unsupported]
    found = (
        len(supported),
        sum(verdict.passed for verdict in supported),
        sum(bool(verdict.failures) for verdict in supported),
        sum(verdict.not_decidable for verdict in supported),
        len(verdicts) - len(supported),
    )
    return dict(zip(STATES, found, strict=True))


def _by_checks(failures: Sequence[Failure]) -> dict[str, int]:
    """In how many cases each set of checks failed; a set is its names joined by " + "."""
    sets = (
        sorted({check.name for check in failure.verdict.failures}, key=CAUSES.index)
        for failure in failures
    )
    return dict(Counter(" + ".join(names) for names in sets).most_common())


def _deviations(failures: Sequence[Failure]) -> Iterator[dict[str, Any]]:
    """Failures of one pattern with the same cause, and the smallest case of each."""
    kinds: dict[tuple[str, str], list[Failure]] = {}
    for failure in failures:
        kinds.setdefault((kind_of(failure.verdict.case), _cause(failure)), []).append(failure)
    for (pattern, check), alike in sorted(kinds.items(), key=lambda item: -len(item[1])):
        smallest = min(alike, key=_size)
        case = smallest.verdict.case
        explanation = next(iter(smallest.explanations), None)
        yield {
            "pattern": pattern,
            "check": check,
            "cases": len(alike),
            "smallest": case.id,
            "shape": list(case.weight.shape),
            "flags": list(case.flags),
            "failed": [" ".join(str(each).split()) for each in smallest.verdict.failures],
            "explanation": explanation and {"key": explanation.key, "rule": explanation.rule,
                                            "text": explanation.text},
        }  # fmt: skip


def _cause(failure: Failure) -> str:
    return min((check.name for check in failure.verdict.failures), key=CAUSES.index)


def _size(failure: Failure) -> tuple[int, int, str]:
    """Sorts the smallest and plainest case first."""
    case = failure.verdict.case
    return case.weight.size, len(case.flags), case.id
