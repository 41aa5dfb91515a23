"""Writes the report of a verification as Markdown, as summaries of CI jobs show it."""

from collections import Counter
from collections.abc import Iterator, Sequence

from verification.conformance.capabilities import Capabilities, pattern_kinds
from verification.conformance.text import printable
from verification.conformance.verify import STATES, Failure, Report

LONGEST = 300  # characters of a cell
NAMES = {"unsupported": "not supported"}  # of states, where they are not their own


def report_markdown(report: Report, capabilities: Capabilities) -> str:
    """The report as Markdown: a table of counts, and what failed with the first failing case."""
    return "\n".join(_parts(report, capabilities))


def _parts(report: Report, capabilities: Capabilities) -> Iterator[str]:
    yield f"## thanos verify: {_cell(report.name)} {report.verdict}"
    yield ""
    yield (
        f"Judged for {_cell(', '.join(capabilities.methods))}, by {report.judged_by}. "
        f"`--seed {report.seed}` repeats it."
    )
    yield ""
    states = [state for state in STATES if state != "expected failures" or report.xfails.file]
    headings = [NAMES.get(state, state) for state in states]
    yield from _table(["method", "pattern", *headings], _counts(report, states), left=2)
    if report.beginning_to_pass:
        yield ""
        heading = f"begin to pass: remove them from {report.xfails.file}"
        yield from _table(["line", heading, "passed"], _beginning(report), left=2)
    if not report.failures:
        return
    yield ""
    yield from _table(["check", "rule", "cases"], _checks(report.failures), left=2)
    if report.ranked:
        yield ""
        yield from _table(["likeliest explanation", "rule", "explains"], _explained(report), left=2)
    yield ""
    yield from _example(min(report.failures, key=_size))


def _counts(report: Report, states: Sequence[str]) -> Iterator[list[str]]:
    """A row for each method and kind of pattern."""
    rows: dict[tuple[str, str], Counter[str]] = {}
    for verdict in report.verdicts:
        case = verdict.case
        kind = "refusals" if case.expected == "refusal" else "+".join(pattern_kinds(case.pattern))
        rows.setdefault((case.method, kind), Counter())[report.state(verdict)] += 1
    for (method, kind), counts in rows.items():
        yield [method, kind, *(str(counts[state]) for state in states)]


def _beginning(report: Report) -> Iterator[list[str]]:
    for entry, passed, of in report.beginning_to_pass:
        yield [str(entry.line), entry.pattern, f"{passed} of {of}"]


def _checks(failures: Sequence[Failure]) -> Iterator[list[str]]:
    """A row for each check that failed, the most frequent first."""
    found = Counter(
        (check.name, check.rule) for failure in failures for check in failure.verdict.failures
    )
    for (name, rule), count in found.most_common():
        yield [name, rule, str(count)]


def _explained(report: Report) -> Iterator[list[str]]:
    for one in report.ranked:
        explains = f"{len(one.failures)} of {len(report.failures)}"
        yield [f"{one.example.key}: {one.example.text}", one.example.rule, explains]


def _example(failure: Failure) -> Iterator[str]:
    """The smallest failing case, folded: the checks, and how to see it again."""
    case = failure.verdict.case
    lines = [str(check) for check in failure.verdict.failures]
    lines += ["", "to see it again:", *failure.reproduce.splitlines()]
    content = [part for line in lines for part in printable(line).splitlines() or [""]]
    fence = "`" * max(3, 1 + max(line.count("`") for line in content))
    yield f"<details><summary>The smallest case that failed: {_cell(case.id)}</summary>"
    yield ""
    yield f"{fence}text"
    yield from content
    yield fence
    yield ""
    yield "</details>"


def _size(failure: Failure) -> tuple[int, str]:
    return failure.verdict.case.weight.size, failure.verdict.case.id


def _table(headings: Sequence[str], rows: Iterator[list[str]], left: int) -> Iterator[str]:
    """A table; the first `left` columns are aligned left, the others right."""
    rule = ["---"] * left + ["---:"] * (len(headings) - left)
    for cells in (headings, rule):
        yield f"| {' | '.join(cells)} |"
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"


def _cell(text: str) -> str:
    """Untrusted text in one line, of which Markdown and HTML change nothing."""
    line = " ".join(printable(text).split())
    short = line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."
    escaped = short.replace("&", "&amp;").replace("<", "&lt;")
    for mark in "\\`*_[]|~#!":
        escaped = escaped.replace(mark, f"\\{mark}")
    return escaped
