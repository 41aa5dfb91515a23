"""Badges: a file for each implementation, in the endpoint format of shields.io."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from verification.writing import write_text

BADGES = Path("docs/badges")


def badge(row: Mapping[str, Any]) -> dict[str, Any]:
    """The badge of a row of the results file."""
    counts = row["counts"]
    decided = counts["passed"] + counts["failed"]
    right = not counts["failed"] and bool(counts["passed"])
    return {
        "schemaVersion": 1,
        "label": f"thanos verify: {row['judged_for']}",
        "message": f"{counts['passed']} of {decided} cases",
        "color": "brightgreen" if right else "yellow" if counts["passed"] else "red",
    }


def badge_text(row: Mapping[str, Any]) -> str:
    """The content of a badge's file."""
    return json.dumps(badge(row), indent=1) + "\n"


def write_badges(content: Mapping[str, Any], folder: Path) -> None:
    """Write the badge of every row; badges without a row are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = {f"{row['name']}.json": row for row in content["implementations"]}
    for name, row in rows.items():
        write_text(folder / name, badge_text(row))
    for file in folder.glob("*.json"):
        if file.name not in rows:
            file.unlink()
