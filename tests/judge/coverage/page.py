"""The page that says by which vectors each rule is judged."""

from pathlib import Path

from tests.judge.coverage.broken import BROKEN, Broken
from tests.judge.coverage.marks import Rule, rules

DOCS = Path(__file__).parents[3] / "docs"
PAGE = "coverage.md"
TITLES = {"specification.md": "Of the specification", "vectors.md": "Of the vectors' page"}
HEAD = """# Coverage of the rules

Each rule of [the specification](specification.md) and of [the vectors' page](vectors.md) has a
wrong implementation that breaks it, and vectors that reject this implementation. It is
[right code](../tests/judge/wrong/right.py) with one change. `make report` writes this page from
marks in the text, and a test runs each wrong implementation on the cases beside it.
"""


def coverage_page(docs: Path) -> str:
    """The page as Markdown. Raises KeyError for a marked rule without a wrong implementation."""
    found = rules(docs)
    tables = [_table(page, [rule for rule in found if rule.page == page]) for page in TITLES]
    return "\n".join([HEAD, *tables])


def _table(page: str, found: list[Rule]) -> str:
    rows = [_row(rule, each) for rule in found for each in BROKEN[rule.name]]
    head = f"## {TITLES[page]}\n\n| rule | broken by | cases that fail |\n|---|---|---|\n"
    return head + "".join(rows)


def _row(rule: Rule, broken: Broken) -> str:
    cases = ", ".join(f"`{case}`" for case in broken.cases)
    link = f"[{rule.name}]({rule.page}#rule-{rule.name})"
    first = f"{link}: {rule.text}" if broken is BROKEN[rule.name][0] else ""
    return f"| {first} | {broken.bug} | {cases} |\n"
