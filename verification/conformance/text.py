"""Writes the report of a verification as text."""

from collections import Counter
from collections.abc import Iterator

from verification.conformance.capabilities import Capabilities
from verification.conformance.made import MadeCase
from verification.conformance.verify import Failure, Report

SHOWN = 3  # number of unexplained failures that are shown in full


def report_text(report: Report, capabilities: Capabilities) -> str:
    """The report as lines of text."""
    return "\n".join(printable(line) for line in _lines(report, capabilities))


def printable(line: str) -> str:
    """Make an untrusted name or message safe to print, so that it cannot forge a verdict.

    Control characters, which move the cursor, are escaped; further lines are indented.
    """
    return "\n        ".join(
        "".join(char if char.isprintable() else ascii(char)[1:-1] for char in part)
        for part in line.split("\n")
    )


def _lines(report: Report, capabilities: Capabilities) -> Iterator[str]:
    counts = report.counts
    yield f"{report.name}: {', '.join(capabilities.methods)}"
    yield (
        f"{len(report.verdicts)} cases: {counts['passed']} passed, {counts['failed']} failed, "
        f"{counts['unsupported']} not supported"
        + (f", {counts['not decidable']} not decidable" if counts["not decidable"] else "")
    )
    fresh = sum(isinstance(verdict.case, MadeCase) for verdict in report.verdicts)
    yield f"  {fresh} of them drawn for this run: --seed {report.seed} repeats it"
    reasons = Counter(v.unsupported for v in report.verdicts if v.unsupported)
    for reason, count in reasons.most_common():
        yield f"  not supported: {reason} ({count})"
    if report.failures:
        yield ""
        yield from _checks(report)
        yield from _explained(report)
        yield from _unexplained(report)
    yield ""
    yield "PASSED" if report.passed else "FAILED"


def _checks(report: Report) -> Iterator[str]:
    yield "What failed"
    often: Counter[str] = Counter()
    rules: dict[str, str] = {}
    for failure in report.failures:
        for check in failure.verdict.failures:
            often[check.name] += 1
            rules[check.name] = check.rule
    for name, count in often.most_common():
        yield f"  {name:15} {count:4} cases   {rules[name]}"


def _explained(report: Report) -> Iterator[str]:
    explanations = report.explanations()
    if not explanations:
        return
    tried = sum(bool(failure.explanations) for failure in report.failures)
    yield ""
    yield "Likeliest explanations (mistakes that were tried, and reproduce the output)"
    for explanation, count, failure in explanations:
        yield f"  {explanation.key}, {explanation.rule}: {count} of the {tried} explained"
        yield f"    {explanation.text}"
        yield from _example(failure)


def _unexplained(report: Report) -> Iterator[str]:
    left = [failure for failure in report.failures if not failure.explanations]
    if not left or (len(left) < len(report.failures) and report.explanations()):
        return
    yield ""
    yield "Failures that no known mistake explains"
    for failure in left[:SHOWN]:
        yield from _example(failure)
    if len(left) > SHOWN:
        yield f"    and {len(left) - SHOWN} more"


def _example(failure: Failure) -> Iterator[str]:
    case = failure.verdict.case
    yield f"    case {case.id}" + (f" ({', '.join(case.flags)})" if case.flags else "")
    for check in failure.verdict.failures:
        yield f"      {check}"
    yield "      to see it again:"
    for line in failure.reproduce.splitlines():
        yield f"        {line}"
