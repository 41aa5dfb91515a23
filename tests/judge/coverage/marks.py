"""Finds the sentences of a page that may fix a rule, and the marks in them.

A mark is an anchor without text, `<a id="rule-NAME"></a>`: no page shows it, and the table of
docs/coverage.md links to it. It stands where the words begin that fix the rule, and what it marks
ends with the sentence, or with the next mark.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PAGES = ("specification.md", "vectors.md")
WORDS = re.compile(r"\b(must|exact|exactly|refuse[sd]?|refusals?|never|ties?)\b", re.IGNORECASE)
MARK = re.compile(r'<a id="rule-([a-z0-9-]+)"></a>')
_CODE = re.compile(r"^```.*?^```$|^(?: {4,}[^\n]*\n?)+", re.MULTILINE | re.DOTALL)
_KEPT_WHOLE = re.compile(r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`", re.DOTALL)
_END = re.compile(r"(?<=[.:?!])\s+(?=[^a-z])|(?<=\.\))\s+|(?<=\.\*\*)\s+")
_LINE_OF_TABLE = re.compile(r"^\|[ :|-]*\|$")
_LINK = re.compile(r"\[([^]]*)\]\([^)]*\)")


@dataclass(frozen=True)
class Rule:
    """A marked rule.

    name  of the mark
    page  its file in docs/
    text  the words that fix it
    """

    name: str
    page: str
    text: str


def sentences(text: str) -> Iterator[str]:
    """Sentences, and rows of tables, of a page in Markdown; code is left out."""
    for paragraph in re.split(r"\n\s*\n|\n(?=- |\d\. |#)", _CODE.sub("\n\n", text)):
        lines = paragraph.strip().splitlines()
        if lines and lines[0].startswith("|"):
            yield from (line for line in lines if not _LINE_OF_TABLE.match(line))
        else:
            yield from _split(" ".join(line.strip() for line in lines))


def _split(paragraph: str) -> Iterator[str]:
    """The sentences of a paragraph; formulas and code are not divided."""
    whole: list[str] = []

    def hidden(found: re.Match[str]) -> str:
        whole.append(found[0])
        return f"\0{len(whole) - 1}\0"

    for sentence in _END.split(_KEPT_WHOLE.sub(hidden, paragraph)):
        if sentence:
            yield re.sub(r"\0(\d+)\0", lambda found: whole[int(found[1])], sentence)


def rules(docs: Path) -> list[Rule]:
    """All marked rules, in the order of the pages."""
    return [
        Rule(name, page, words)
        for page in PAGES
        for sentence in sentences((docs / page).read_text(encoding="utf-8"))
        for name, words in _marked(sentence)
    ]


def _marked(sentence: str) -> Iterator[tuple[str, str]]:
    parts = MARK.split(sentence)
    for name, words in zip(parts[1::2], parts[2::2], strict=True):
        yield name, plain(words)


def plain(words: str) -> str:
    """Words as one line of text that fits a cell of a table: no links, bold type and bars."""
    text = _LINK.sub(r"\1", words).replace("**", "").replace("&nbsp;", " ")
    cells = [cell.strip() for cell in text.split("|") if cell.strip()]
    return ": ".join(cells).strip(" ;,")


def unmarked(docs: Path) -> list[tuple[str, str]]:
    """Page and text of sentences that hold one of WORDS and no mark."""
    return [
        (page, sentence)
        for page in PAGES
        for sentence in sentences((docs / page).read_text(encoding="utf-8"))
        if WORDS.search(sentence) and not MARK.search(sentence)
    ]
