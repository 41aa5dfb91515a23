"""The table on the README's first screen."""

import re
from typing import Any

from verification.benchmarks.pages.tables import source, summary

BEGIN = "<!-- table: docs/results/quick/results.json -->"
END = "<!-- end of table -->"


def with_table(readme: str, results: dict[str, Any]) -> str:
    """The README with the quick benchmark's table between its marks; ValueError without marks."""
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    table = f"{BEGIN}\n\n{summary(results)}\n\n{source(results)}\n\n{END}"
    changed, count = pattern.subn(lambda _: table, readme)
    if count != 1:
        raise ValueError(f"README must have {BEGIN} and {END} once, found {count} times")
    return changed
