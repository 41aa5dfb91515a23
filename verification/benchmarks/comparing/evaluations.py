"""What a perplexity is of. Those of other windows do not compare, and that has to be said."""

from typing import Any

from verification.benchmarks.comparing.records import Draw, Records, perplexity_values

HASH_DIGITS = 12


def evaluation_change(first: Records, second: Records) -> tuple[str, str] | None:
    """In words, what the perplexities of either side are of, if that differs.

    Of the draws that both have, or of all where they have none in common.
    """
    before, after = _evaluations(first), _evaluations(second)
    shared = [draw for draw in before if draw in after]
    if shared:
        sides = [[side[draw] for draw in shared] for side in (before, after)]
    else:
        sides = [sorted(set(side.values())) for side in (before, after)]
    if sides[0] == sides[1] or not all(sides):
        return None
    return _words(sides[0]), _words(sides[1])


def _evaluations(records: Records) -> dict[Draw, str]:
    """By draw, of the runs that have a perplexity."""
    return {draw: _evaluation(records[draw]) for draw in perplexity_values(records)}


def _evaluation(record: dict[str, Any]) -> str:
    """As much as the record tells."""
    text = record.get("evaluation_text", {}).get("windows_sha256")
    told = {
        "{} windows": record.get("windows"),
        "of {} tokens": record.get("seqlen"),
        "({} scored)": record.get("tokens"),
        "of text {}": text and text[:HASH_DIGITS],
    }
    found = [form.format(value) for form, value in told.items() if value is not None]
    return " ".join(found) or "windows that are not told"


def _words(evaluations: list[str]) -> str:
    return " and ".join(dict.fromkeys(evaluations))
