"""Marks in Markdown pages between which tables and numbers are filled in.

A table stands between `<!-- table: NAME -->` and `<!-- end of table -->`, a number between
`<!-- number: QUERY -->` and `<!-- end -->`. Everything else on a page is written by hand.
"""

import re
from collections.abc import Callable

TABLE = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end of table -->)", re.DOTALL)
NUMBER = re.compile(r"(<!-- number: (.+?) -->).*?(<!-- end -->)", re.DOTALL)
OPENED = re.compile(r"<!-- (?:table|number): ")
FIRST = re.compile(r"^<!-- number: .*", re.MULTILINE)


def fill(text: str, table: Callable[[str], str], number: Callable[[str], str]) -> str:
    """The page with all tables and numbers filled in.

    table, number  give the text for the NAME or QUERY of a mark

    Raises ValueError for a mark that is not closed, or for a number at the beginning of a line, where
    Markdown takes the comment for a block of its own and splits the paragraph.
    """
    if first := FIRST.search(text):
        raise ValueError(f"a number must not begin a line, got {first[0]!r}")
    filled, tables = TABLE.subn(lambda found: f"{found[1]}\n{table(found[2])}\n\n{found[3]}", text)
    filled, numbers = NUMBER.subn(lambda found: f"{found[1]}{number(found[2])}{found[3]}", filled)
    if (opened := len(OPENED.findall(text))) != tables + numbers:
        raise ValueError(f"all marks must be closed, got {opened} marks, {tables + numbers} closed")
    return filled


def queries(text: str) -> list[str]:
    """The queries of all number marks."""
    return [found[2] for found in NUMBER.finditer(text)]
