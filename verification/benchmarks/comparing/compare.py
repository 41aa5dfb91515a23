"""Two results files against each other: every run that both have, what is lost, and what is new."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from verification.benchmarks.comparing.noise import (
    FIRST_BLOCKS,
    ROUNDING,
    ROUNDING_AT_DEPTH,
    ROUNDING_OF_A_LAYER,
    Change,
    Samples,
    against,
    first_blocks,
    other_draws,
    same_draw,
)
from verification.benchmarks.comparing.records import (
    Draw,
    Key,
    Results,
    common_layers,
    layer_values,
    perplexity_values,
)

# A draw that is easy for one method is easy for its control: both move the kept weights, or none.
CONTROLS = {
    "thanos": "sparsegpt",
    "sparsegpt": "thanos",
    "wanda": "magnitude",
    "magnitude": "wanda",
}
MEASURES = {"layer error": "error", "with dense inputs": "dense_error"}
FIRST = f"first {FIRST_BLOCKS} blocks"
NAMED = 3  # of many layers that fail at once
Records = dict[Draw, dict[str, Any]]


@dataclass(frozen=True)
class Pair:
    """A run that both files have: its records by draw, what changed, and what broke."""

    key: Key
    before: Records
    after: Records
    changes: list[Change]
    broken: list[str] = field(default_factory=list)

    @property
    def regressions(self) -> list[str]:
        """In words, what got worse."""
        return self.broken + [_words(change) for change in self.changes if change.worse]

    @property
    def improvements(self) -> list[str]:
        """In words, what got better by more than noise."""
        return [_words(change) for change in self.changes if change.verdict == "lower"]

    @property
    def judged(self) -> bool:
        """Whether any measure has a verdict."""
        return any(change.verdict != "no verdict" for change in self.changes)

    @property
    def pruned(self) -> bool:
        """Whether it is of a pruned model: the dense one is the same on every draw."""
        return any("layers" in record for record in self.before.values())


@dataclass(frozen=True)
class Comparison:
    """All of it; `regressions` are what the exit status is about."""

    before: Results
    after: Results
    pairs: list[Pair]
    lost: list[str]
    new: list[str]
    settings: dict[str, tuple[Any, Any]]
    costs: list[str]

    @property
    def regressions(self) -> list[str]:
        """In words: lost runs, then by run what got worse, then costs if they are judged."""
        found = [f"{pair.key.label}: {what}" for pair in self.pairs for what in pair.regressions]
        return [f"{what}: the run is lost" for what in self.lost] + found + self.costs

    @property
    def improvements(self) -> list[str]:
        """In words, by run."""
        return [f"{pair.key.label}: {what}" for pair in self.pairs for what in pair.improvements]

    @property
    def unjudged(self) -> list[str]:
        """Runs whose changes could be noise or not: nothing tells."""
        return [pair.key.label for pair in self.pairs if not pair.judged]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "before": self.before.as_dict(),
            "after": self.after.as_dict(),
            "settings": {name: list(values) for name, values in self.settings.items()},
            "regressions": self.regressions,
            "improvements": self.improvements,
            "unjudged": self.unjudged,
            "lost": self.lost,
            "new": self.new,
            "runs": [
                {
                    "model": pair.key.model,
                    "run": dict(pair.key.options),
                    "changes": [change.as_dict() for change in pair.changes],
                    "broken": pair.broken,
                }
                for pair in self.pairs
            ],
        }


def compare(
    before: Results, after: Results, recorded: Results, costs: list[str] | None = None
) -> Comparison:
    """Compare two results files.

    recorded  a results file with several draws a run, whose spread judges runs of the same model
              and kind of calibration that have too few draws of their own
    costs     regressions in time and memory, in words, where they are judged

    Raises ValueError if no run is in both, or none of a pruned model can be judged: that would
    pass whatever came.
    """
    keys = [key for key in before.runs if key in after.runs]
    if not keys:
        raise ValueError(f"{before.file} and {after.file} have no run in common")
    lost = [key.label for key in before.runs if key not in after.runs]
    for key in keys:  # other seeds are another draw; some of the same seeds are what is left
        first, second = before.runs[key].keys(), after.runs[key].keys()
        lost += [f"{key.label}, seed {draw.seed}" for draw in first - second if second < first]
    tests = max(1, sum(1 for key in keys for _ in _unpaired(key, before, after, recorded)))
    pairs = [_pair(key, before, after, recorded, tests) for key in keys]
    asked = [pair for pair in pairs if pair.pruned] or pairs
    if not any(pair.judged for pair in asked):
        reasons = sorted({change.basis for pair in asked for change in pair.changes})
        raise ValueError(f"nothing can be judged: {'; '.join(reasons) or 'no numbers in common'}")
    new = [key.label for key in after.runs if key not in before.runs]
    return Comparison(before, after, pairs, lost, new, _settings(before, after), costs or [])


def _pair(key: Key, before: Results, after: Results, recorded: Results, tests: int) -> Pair:
    """What changed in one run."""
    first, second = before.runs[key], after.runs[key]
    changes = []
    for measure, a, b in _measured(first, second):
        if not a.keys() & b.keys():
            continue
        changes.append(same_draw(measure, a, b, ROUNDING_AT_DEPTH))
        if measure in MEASURES:
            shallow = first_blocks(a), first_blocks(b)
            if common_layers(chain(*(side.values() for side in shallow))):
                name = f"{measure}, {FIRST}"
                changes.append(same_draw(name, *shallow, ROUNDING, ROUNDING_OF_A_LAYER))
    for measure, a, b, spread in _unpaired(key, before, after, recorded):
        changes.append(other_draws(measure, a, b, spread, tests))
    return Pair(key, first, second, changes, list(_broken(first, second)))


def _measured(first: Records, second: Records) -> Iterator[tuple[str, Samples, Samples]]:
    """The measures that both sides have."""
    for measure, name in MEASURES.items():
        a, b = layer_values(first, name), layer_values(second, name)
        if a and b and common_layers([*a.values(), *b.values()]):
            yield measure, a, b
    texts = [set(map(_scored, side.values())) for side in (first, second)]
    if texts[0] == texts[1]:
        a, b = perplexity_values(first), perplexity_values(second)
        if a and b:
            yield "perplexity", a, b


def _scored(record: dict[str, Any]) -> tuple[Any, ...]:
    """What a perplexity is of."""
    numbers = tuple(record.get(name) for name in ("windows", "seqlen", "tokens"))
    return *numbers, record.get("evaluation_text", {}).get("windows_sha256")


def _unpaired(
    key: Key, before: Results, after: Results, recorded: Results
) -> Iterator[tuple[str, Samples, Samples, Samples]]:
    """What has to be judged between different draws: measures, and their ratios to a control."""
    known = recorded.runs.get(key, {})
    kinds = {draw.kind for side in (before, after) for draw in side.runs[key]}
    if kinds != {draw.kind for draw in known}:
        known = {}
    spreads = {
        **{measure: layer_values(known, name) for measure, name in MEASURES.items()},
        "perplexity": perplexity_values(known),
    }
    method = dict(key.options).get("method", "")
    control = key.with_method(CONTROLS.get(method, ""))
    for measure, a, b in _measured(before.runs[key], after.runs[key]):
        if a.keys() & b.keys():
            continue
        spread = spreads[measure]
        if not common_layers([*a.values(), *b.values(), *spread.values()]):
            spread = {}  # of a model whose layers have other names
        yield measure, a, b, spread
        if measure not in MEASURES:
            continue
        name = MEASURES[measure]
        controls = [layer_values(side.runs.get(control, {}), name)
                    for side in (before, after, recorded)]  # fmt: skip
        sides = [against(*both) for both in zip((a, b, spread), controls, strict=True)]
        if sides[0] and sides[1]:
            label = f"{measure} / {dict(control.options)['method']}'s"
            yield label, sides[0], sides[1], sides[2]


def _broken(first: Records, second: Records) -> Iterator[str]:
    """What no noise excuses: certificates, counts, layers."""
    shared = [draw for draw in first if draw in second]
    if shared:
        found = [_failing(second[draw]) - _failing(first[draw]) for draw in shared]
    else:  # other draws: what failed in one of them was not sound before
        found = [_failing(*second.values()) - _failing(*first.values())]
    failed = set().union(*found)
    lost = [name for name in _layers(first) if name in failed]
    if lost:
        more = f" and {len(lost) - NAMED} more" if len(lost) > NAMED else ""
        was, now = ("were", "are") if len(lost) > 1 else ("was", "is")
        yield f"{', '.join(lost[:NAMED])}{more} {was} certified and {now} not any more"
    counts = [{layer["name"]: layer["removed"] for record in side.values()
               for layer in record.get("layers", ())} for side in (first, second)]  # fmt: skip
    for name in counts[0]:
        if name not in counts[1]:
            yield f"{name} is lost"
        elif counts[0][name] != counts[1][name]:
            yield f"{name} lost {counts[0][name]} weights and loses {counts[1][name]} now"


def _failing(*records: dict[str, Any]) -> set[str]:
    """The layers without a certificate."""
    layers = chain(*(record.get("layers", ()) for record in records))
    return {layer["name"] for layer in layers if not layer["passed"]}


def _layers(records: Records) -> list[str]:
    """All names, in order."""
    layers = chain(*(record.get("layers", ()) for record in records.values()))
    return list(dict.fromkeys(layer["name"] for layer in layers))


def _words(change: Change) -> str:
    percent = 100 * (change.ratio.value - 1)
    layers = f"; worse by themselves: {', '.join(change.layers)}" if change.layers else ""
    return f"{change.measure} {percent:+.2f} % ({change.basis}){layers}"


def _settings(before: Results, after: Results) -> dict[str, tuple[Any, Any]]:
    """Settings and versions that differ: often the whole explanation."""
    first, second = (
        {
            **side.content.get("settings", {}),
            "python": side.origin("python"),
            **(side.origin("versions") or {}),
        }
        for side in (before, after)
    )
    return {
        name: (first.get(name), second.get(name))
        for name in first | second
        if first.get(name) != second.get(name)
    }


def write_comparison(comparison: Comparison, file: Path) -> None:
    """As JSON."""
    file.write_text(json.dumps(comparison.as_dict(), indent=1, allow_nan=False) + "\n")
