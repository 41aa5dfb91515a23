"""An extension of griffe that turns the parameter tables of docstrings into definition lists.

A row of such a table is `name, name  explanation`, with two spaces or more between them. An
indented line continues it.
"""

import re
from typing import Any

from griffe import Extension, Object

ROW = re.compile(r"([A-Za-z_]\w*(?:, \w+)*) {2,}(\S.*)")


class ParameterTables(Extension):
    """Rewrites each docstring when its object has been read."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Turn the tables of one docstring into Markdown."""
        if obj.docstring:
            obj.docstring.value = with_lists(obj.docstring.value)


def with_lists(text: str) -> str:
    """A docstring with its parameter tables as Markdown definition lists."""
    lines: list[str] = []
    in_table = False
    for line in text.splitlines():
        row = ROW.fullmatch(line)
        if row:
            names = ", ".join(f"`{name}`" for name in row[1].split(", "))
            lines += ["", names, f":   {row[2]}"]
            in_table = True
        elif in_table and line.startswith("  "):
            lines.append(f"    {line.strip()}")
        else:
            if in_table and line:
                lines.append("")
            in_table = False
            lines.append(line)
    return "\n".join(lines)
