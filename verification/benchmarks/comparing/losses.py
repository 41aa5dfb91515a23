"""What no noise excuses: what is lost, certificates that fail, and other counts."""

from collections.abc import Iterator
from typing import Any

from verification.benchmarks.results import Draw, Records, Results, named, perplexity_values

Side = list[dict[str, Any]]
# By their names in a results file.
PERPLEXITY = "perplexity"
OF_LAYERS = {"error": "layer error", "dense_error": "error with dense inputs"}
LAYER = "name"


def lost_runs(before: Results, after: Results) -> list[str]:
    """Runs that `after` lacks, and draws of those that it has.

    Where no draw is shared, the two are other draws and none is lost.
    """
    lost = [key.label for key in before.runs if key not in after.runs]
    for key, first in before.runs.items():
        second = after.runs.get(key, {})
        if first.keys() & second.keys():
            lost += [f"{key.label}, seed {draw.seed}" for draw in first if draw not in second]
    return lost


def broken(first: Records, second: Records, unmeasured: frozenset[str]) -> Iterator[str]:
    """In words, what broke in a run that both have, draw by draw where they share some.

    unmeasured  measures that the second file does not take, so that they are not lost
    """
    shared = [draw for draw in first if draw in second]
    if not shared:
        yield from _broken([*first.values()], [*second.values()], unmeasured)
    seeds: dict[str, list[str]] = {}
    for draw in shared:
        for what in _broken([first[draw]], [second[draw]], unmeasured):
            seeds.setdefault(what, []).append(str(draw.seed))
    for what, found in seeds.items():
        yield what if len(found) == len(shared) else f"{what}, with seed {', '.join(found)}"


def _broken(before: Side, after: Side, unmeasured: frozenset[str]) -> Iterator[str]:
    """Of one draw, or of other draws on either side."""
    names = list(dict.fromkeys(layer["name"] for record in before for layer in _layers(record)))
    # What failed in one of other draws was not sound before.
    failing = _failing(after) - _failing(before)
    failed = [name for name in names if name in failing]
    if failed:
        was, now = ("were", "are") if len(failed) > 1 else ("was", "is")
        yield f"{named(failed)} {was} certified and {now} not any more"
    yield from _lost(names, before, after, unmeasured)
    yield from _other_counts(before, after)


def _lost(names: list[str], before: Side, after: Side, unmeasured: frozenset[str]) -> Iterator[str]:
    """Layers, and measures of what is left."""
    layers = _missing(LAYER, before, after)
    yield from (f"{name} is lost" for name in names if name in layers)
    for measure, words in OF_LAYERS.items():
        missing = _missing(measure, before, after) - layers
        if missing and measure not in unmeasured:
            yield f"{words} of {named([name for name in names if name in missing])} is lost"
    if PERPLEXITY not in unmeasured and _missing(PERPLEXITY, before, after):
        yield f"{PERPLEXITY} is lost"


def _missing(measure: str, before: Side, after: Side) -> set[str]:
    """The layers where a draw had it and none has it, or all had it and one has not."""
    first, second = ([held(record, measure) for record in side] for side in (before, after))
    lost = first[0].union(*first) - second[0].union(*second)
    return lost | (first[0].intersection(*first) - second[0].intersection(*second))


def held(record: dict[str, Any], measure: str) -> set[str]:
    """The layers that have a measure; perplexity stands under ""."""
    if measure == PERPLEXITY:
        return {""} if record.get(PERPLEXITY) is not None else set()
    return {layer["name"] for layer in _layers(record) if layer.get(measure) is not None}


def _other_counts(before: Side, after: Side) -> Iterator[str]:
    """Layers that lose another number of weights."""
    first, second = (
        {layer["name"]: layer["removed"] for record in side for layer in _layers(record)}
        for side in (before, after)
    )
    for name, count in first.items():
        if name in second and count != second[name]:
            yield f"{name} lost {count} weights and loses {second[name]} now"


def _failing(records: Side) -> set[str]:
    """The layers without a certificate."""
    layers = (layer for record in records for layer in _layers(record))
    return {layer["name"] for layer in layers if not layer["passed"]}


def _layers(record: dict[str, Any]) -> list[dict[str, Any]]:
    layers: list[dict[str, Any]] = record.get("layers", [])
    return layers


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
