"""Writes the report of a verification as text."""

from collections import Counter
from collections.abc import Iterator, Sequence

from verification.conformance.capabilities import Capabilities
from verification.conformance.cases import TIERS
from verification.conformance.made import MadeCase
from verification.conformance.verify import Failure, Report


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
        f"{_cases(len(report.verdicts))}: {counts['passed']} passed, {counts['failed']} failed, "
        f"{counts['unsupported']} not supported"
        + (f", {counts['not decidable']} not decidable" if counts["not decidable"] else "")
    )
    if report.tier == TIERS[-1]:
        fresh = sum(isinstance(verdict.case, MadeCase) for verdict in report.verdicts)
        yield f"  {fresh} of them drawn for this run: --seed {report.seed} repeats it"
    yield f"  {report.judged_by}"
    if report.xfails.file:
        yield f"  {counts['expected failures']} expected failures, listed in {report.xfails.file}"
    reasons = Counter(v.unsupported for v in report.verdicts if v.unsupported)
    for reason, count in reasons.most_common():
        yield f"  not supported: {reason} ({count})"
    if report.failures:
        yield ""
        yield from _checks(report)
        yield from _explained(report)
        yield from _unexplained(report)
    if report.beginning_to_pass:
        yield ""
        yield f"Begin to pass: remove them from {report.xfails.file}, or name those that still fail"
        for entry, passed, of in report.beginning_to_pass:
            yield f"  line {entry.line}, {entry.pattern}: {passed} of {of} cases passed"
    yield ""
    word = "passed" if report.passed else "failed"
    yield report.verdict.replace(word, word.upper(), 1)


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
    if not report.ranked:
        return
    total = len(report.failures)
    yield ""
    yield "Likeliest explanations (mistakes that were tried, and reproduce the output)"
    if 2 * len(report.ranked[0].failures) < total:
        yield "  No known mistake explains most of the failures."
    for one in report.ranked:
        example = report.failures[one.failures[0]]
        explains = f"{len(one.failures)} of the {total} failures"
        yield f"  {one.example.key}, {one.example.rule}: explains {explains}"
        yield f"    {one.example.text}"
        if one.against:
            yield f"    only under some condition: {one.against} other cases do not show it"
        yield from _example(example)


def _unexplained(report: Report) -> Iterator[str]:
    """Failures without an explanation, with an example for each check that fails."""
    explained = {place for one in report.ranked for place in one.failures}
    left = [failure for k, failure in enumerate(report.failures) if k not in explained]
    if not left:
        return
    yield ""
    yield f"Failures that are not named: {len(left)} of the {len(report.failures)}"
    shown = _of_every_kind(left)
    for failure in shown:
        yield from _example(failure)
    if len(left) > len(shown):
        yield f"    and {len(left) - len(shown)} more"


def _of_every_kind(failures: Sequence[Failure]) -> list[Failure]:
    """One failure for each check, unless it was shown with another one."""
    shown: list[Failure] = []
    seen: set[str] = set()
    for failure in failures:
        checks = {check.name for check in failure.verdict.failures}
        if checks - seen:
            shown.append(failure)
            seen |= checks
    return shown


def _example(failure: Failure) -> Iterator[str]:
    case = failure.verdict.case
    yield f"    case {case.id}" + (f" ({', '.join(case.flags)})" if case.flags else "")
    for check in failure.verdict.failures:
        yield f"      {check}"
    yield "      to see it again:"
    for line in failure.reproduce.splitlines():
        yield f"        {line}"


def _cases(number: int) -> str:
    return "1 case" if number == 1 else f"{number} cases"
