"""Tables of text that fit the width of a terminal: cells are broken between words alone."""

import re
from collections.abc import Iterator, Sequence

from rich.cells import cell_len, chop_cells

GAP = "  "  # between two columns
WORD = re.compile(r"\d+(?: x \d+)+,?|\S+")  # a shape, such as 64 x 96, is one word

NUMBER = re.compile(r"[-+±<>≤≥~]? ?\d")

Column = list[str]  # its heading, and a cell for each row


def table_lines(
    headings: Sequence[str], rows: Sequence[Sequence[str]], width: int
) -> Iterator[str]:
    """The lines of a table: columns of numbers are aligned to the right, but for the first one.

    Where the columns do not fit side by side, a second table below the first one has the rest, and
    the first column again. Only a word that is wider than a whole table is cut.
    """
    columns = [[*column] for column in zip(headings, *rows, strict=True)]
    for number, part in enumerate(_side_by_side(columns, width)):
        yield from [""] * bool(number)
        yield from _drawn(part, _widths(part, width))


def _drawn(columns: list[Column], widths: list[int]) -> Iterator[str]:
    right = [False]
    right += [all(NUMBER.match(cell) for cell in column[1:] if cell) for column in columns[1:]]
    for row_number, row in enumerate(zip(*columns, strict=True)):
        cells = [_wrapped(cell, width) for cell, width in zip(row, widths, strict=True)]
        for line in range(max(map(len, cells))):
            words = (cell[line] if line < len(cell) else "" for cell in cells)
            padded = [
                _blank(width, word) + word if number else word + _blank(width, word)
                for word, width, number in zip(words, widths, right, strict=True)
            ]
            yield GAP.join(padded).rstrip()
        if row_number == 0:
            yield "─" * (sum(widths) + len(GAP) * (len(widths) - 1))


def _blank(width: int, word: str) -> str:
    return " " * (width - cell_len(word))


def _wrapped(cell: str, width: int) -> list[str]:
    """A cell as lines; a word that is wider than the column is cut."""
    lines = [""]
    for word in WORD.findall(cell):
        for piece in chop_cells(word, width):
            joined = f"{lines[-1]} {piece}".strip()
            if cell_len(joined) <= width:
                lines[-1] = joined
            else:
                lines.append(piece)
    return lines


def _side_by_side(columns: list[Column], width: int) -> list[list[Column]]:
    """The columns of each table: as many as fit, each as wide as its longest word."""
    parts = [columns[:1]]
    for column in columns[1:]:
        tried = [*parts[-1], column]
        needed = sum(_longest_word(each) + len(GAP) for each in tried) - len(GAP)
        if needed > width and len(tried) > 2:
            parts.append([columns[0], column])
        else:
            parts[-1] = tried
    return parts


def _widths(columns: list[Column], width: int) -> list[int]:
    """The width of each column: its longest word, and more for whole cells, then for headings.

    Columns that need little more come first.
    """
    widths = [_longest_word(column) for column in columns]
    spare = width - sum(widths) - len(GAP) * (len(widths) - 1)
    if spare < 0:  # a first column that is too wide for any other
        return [max(1, widths[0] + spare), *widths[1:]]
    for first in (1, 0):  # without the heading, and with it
        longest = [max(map(cell_len, column[first:]), default=0) for column in columns]
        wanted = [max(0, most - width) for most, width in zip(longest, widths, strict=True)]
        for index in sorted(range(len(columns)), key=wanted.__getitem__):
            given = min(spare, wanted[index])
            widths[index] += given
            spare -= given
    return widths


def _longest_word(column: Column) -> int:
    return max(cell_len(word) for cell in column for word in WORD.findall(cell) or [" "])
