"""Names of runs in tables and plots."""

from typing import Any

from verification.benchmarks.quality.plan import label

SWITCHES = {
    "adaptive False": "fixed mask",
    "residual local": "block-local mask",
    "update sequential": "sequential update",
    "metric magnitude": "magnitudes as scores",
    "metric obs": "OBS scores",
    "outlier_score wanda": "rows by Wanda's score",
    "block_size": "blocks of",
}


def name(what: dict[str, Any]) -> str:
    """A run, with words for its switches.

    what  as of `Run.what`
    """
    return readable(label(what))


def readable(text: str) -> str:
    """A label, with words for its switches."""
    for switch, words in SWITCHES.items():
        text = text.replace(switch, words)
    return text
