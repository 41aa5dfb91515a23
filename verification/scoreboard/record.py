"""The results file of the scoreboard, docs/results/scoreboard.json: one object for each row."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from verification.scoreboard.implementations import Listed
from verification.writing import write_text

RESULTS = Path("docs/results/scoreboard.json")
FORMAT = 1


def read_record(path: Path) -> dict[str, Any]:
    """The results file; one without rows if it does not exist yet."""
    if not path.exists():
        return {"format": FORMAT, "implementations": []}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if content.get("format") != FORMAT:
        raise ValueError(f"{path} is no scoreboard of format {FORMAT}")
    return content


def merged(
    before: dict[str, Any],
    fresh: Iterable[dict[str, Any]],
    listed: Sequence[Listed],
    command: str,
    here: dict[str, Any],
) -> dict[str, Any]:
    """A results file in which fresh rows replace those of the same name; in the order of the list.

    Rows of implementations that the list does not have are left out.

    here  the environment of the run, as it was before the first row was written
    """
    rows = {row["name"]: row for row in (*before["implementations"], *fresh)}
    return {
        "format": FORMAT,
        "command": command,
        **here,
        "implementations": [rows[each.name] for each in listed if each.name in rows],
    }


def write_record(path: Path, content: dict[str, Any]) -> None:
    """Write the results file in one step."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
