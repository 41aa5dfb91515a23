"""Regressions that no noise excuses: lost runs and measures, failed certificates, other counts."""

from collections.abc import Iterator

from verification.benchmarks.results import (
    Draw,
    MeasuredLayer,
    MeasuredRun,
    Records,
    ResultsFile,
    named,
)

Side = list[MeasuredRun]
PERPLEXITY = "perplexity"
# Measures of a layer by their names in a results file, in words.
OF_LAYERS = {"error": "layer error", "dense_error": "error with dense inputs"}


def lost_runs(before: ResultsFile, after: ResultsFile) -> list[str]:
    """The runs that `after` lacks, and the draws that it lacks of the runs that it has.

    If the two files share no draw of a run, they hold different draws and none is lost.
    """
    lost = [key.label for key in before.runs if key not in after.runs]
    for key, first in before.runs.items():
        second = after.runs.get(key, {})
        if first.keys() & second.keys():
            lost += [f"{key.label}, seed {draw.seed}" for draw in first if draw not in second]
    return lost


def broken(first: Records, second: Records, unmeasured: frozenset[str]) -> Iterator[str]:
    """Describe what broke in a run that both files have, draw by draw if they share draws.

    unmeasured  measures that the second file never holds, so that they are not lost
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
    """Compare one draw with itself, or all draws of one side with other draws."""
    names = list(dict.fromkeys(layer.name for layer in _layers(before)))
    # A layer that failed on any draw before was not sound before.
    failing = _failing(after) - _failing(before)
    failed = [name for name in names if name in failing]
    if failed:
        was, now = ("were", "are") if len(failed) > 1 else ("was", "is")
        yield f"{named(failed)} {was} certified and {now} not any more"
    yield from _lost(names, before, after, unmeasured)
    first, second = (
        {each.name: each.removed for each in _layers(side)} for side in (before, after)
    )
    for name, count in first.items():
        if name in second and count != second[name]:
            yield f"{name} lost {count} weights and loses {second[name]} now"


def _lost(names: list[str], before: Side, after: Side, unmeasured: frozenset[str]) -> Iterator[str]:
    """Lost layers, and lost measures of the layers that are left."""
    layers = _missing(*([{each.name for each in _layers([record])} for record in side]
                        for side in (before, after)))  # fmt: skip
    yield from (f"{name} is lost" for name in names if name in layers)
    for measure in (*OF_LAYERS, PERPLEXITY):
        if measure in unmeasured:
            continue
        missing = _missing(*([set(record.measured(measure)) for record in side]
                             for side in (before, after)))  # fmt: skip
        if measure == PERPLEXITY and missing:
            yield f"{PERPLEXITY} is lost"
        elif missing - layers:
            left = [name for name in names if name in missing - layers]
            yield f"{OF_LAYERS[measure]} of {named(left)} is lost"


def _missing(before: list[set[str]], after: list[set[str]]) -> set[str]:
    """Names that some draw had and none has, or that all draws had and one has not."""
    lost = before[0].union(*before) - after[0].union(*after)
    return lost | (before[0].intersection(*before) - after[0].intersection(*after))


def _failing(side: Side) -> set[str]:
    return {layer.name for layer in _layers(side) if not layer.passed}


def _layers(side: Side) -> list[MeasuredLayer]:
    return [layer for record in side for layer in record.layers or ()]


def evaluation_change(first: Records, second: Records) -> tuple[str, str] | None:
    """The evaluation texts of both sides' perplexities in words; None if they are the same.

    Compares the draws that both have, or all draws if they have none in common.
    """
    before, after = _evaluations(first), _evaluations(second)
    shared = [draw for draw in before if draw in after]
    if shared:
        sides = [[side[draw] for draw in shared] for side in (before, after)]
    else:
        sides = [sorted(set(side.values())) for side in (before, after)]
    if sides[0] == sides[1] or not all(sides):
        return None
    was, now = (" and ".join(dict.fromkeys(side)) for side in sides)
    return was, now


def _evaluations(records: Records) -> dict[Draw, str]:
    """The evaluation by draw, of the runs that have a perplexity."""
    return {draw: each.evaluation for draw, each in records.items() if each.perplexity is not None}
