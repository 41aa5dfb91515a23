"""Groups of runs of several studies that may be compared: one model, pattern and text."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from verification.benchmarks.pages.page import Sources, joined
from verification.benchmarks.pages.pairs import PairedRuns, Record
from verification.benchmarks.quality.plan import family, label

OTHERS = ("magnitude", "wanda", "sparsegpt")  # that Thanos is held against
RUINED = 10  # times the dense model's perplexity: above, a model is of no use


@dataclass(frozen=True)
class Group:
    """What shares a model, a pattern without outlier rows, and texts, apart from the draw.

    kind     all of these, as text
    model    as of the registry
    name     for people
    pattern  without outlier rows
    dense    perplexity of the model before
    runs     by label and draw
    """

    kind: tuple[str, ...]
    model: str
    name: str
    pattern: str
    dense: float
    runs: dict[str, dict[int, Record]] = field(default_factory=dict)


@dataclass(frozen=True)
class MethodComparison(PairedRuns):
    """A method against another one in a group.

    of, than  labels
    rivals    labels that `than` is the best of
    """

    group: Group
    of: str
    than: str
    rivals: tuple[str, ...]

    @property
    def usable(self) -> bool:
        """Whether one of the two leaves a model that is worth comparing."""
        best = min(self.perplexity, self.perplexity / self.perplexity_ratio.value)
        return best <= RUINED * self.group.dense

    @property
    def remark(self) -> str:
        """What follows a verdict that says little."""
        return "" if self.usable else ", ruined"


def groups(sources: Sources, studies: Iterable[Sequence[str]]) -> Iterator[Group]:
    """Study by study, as runs of two studies may be of two machines; parts of a study are one."""
    for parts in studies:
        if sources.keys() & {*parts}:
            yield from _groups(joined(sources, parts)["runs"])


def _groups(records: Sequence[Record]) -> Iterator[Group]:
    dense = {_evaluated(record): record for record in records if "layers" not in record}
    found: dict[tuple[str, ...], Group] = {}
    for record in records:
        if "layers" in record:
            before = dense[_evaluated(record)]["perplexity"]
            kind = _kind(record)
            group = found.setdefault(
                kind, Group(kind, record["model"], _named(record), family(record["run"]), before)
            )
            by_draw = group.runs.setdefault(label(record["run"]), {})
            by_draw[record["calibration"]["seed"]] = record
    for group in found.values():
        _on_every_draw(group.runs)
    yield from found.values()


def _on_every_draw(runs: dict[str, dict[int, Record]]) -> None:
    """Magnitude reads no calibration text: its run on one draw is that on all."""
    if "magnitude" in runs:
        (first, *_) = runs["magnitude"].values()
        seeds = {seed for by_draw in runs.values() for seed in by_draw}
        runs["magnitude"] = dict.fromkeys(sorted(seeds), first)


def _evaluated(record: Record) -> str:
    return str([record["model"], record["evaluation"]])


def _kind(record: Record) -> tuple[str, ...]:
    """What runs must share to be compared, apart from the draw."""
    text = record["calibration"]
    size = f"{text['nsamples']} x {text['seqlen']}"
    return _evaluated(record), family(record["run"]), text["dataset"], size


def _named(record: Record) -> str:
    whole = ", whole test set" if record["evaluation"]["windows"] is None else ""
    return f"{record['model']}, {family(record['run'])}, {record['calibration']['dataset']}{whole}"


def against_best(group: Group, of: str, than: Iterable[str]) -> MethodComparison | None:
    """Against the best of those that were measured, on the draws that all have; None without any."""
    rivals = tuple(name for name in than if name in group.runs)
    if of not in group.runs or not rivals:
        return None
    shared = sorted(set.intersection(*({*group.runs[name]} for name in (of, *rivals))))
    if not shared:
        return None
    own, *others = ([group.runs[name][seed] for seed in shared] for name in (of, *rivals))
    compared = (
        MethodComparison(own, other, group, of, name, rivals)
        for name, other in zip(rivals, others, strict=True)
    )
    return max(compared, key=lambda each: each.perplexity_ratio.value)


def once(
    found: Iterable[MethodComparison], rank: Callable[[MethodComparison], Any]
) -> list[MethodComparison]:
    """Of what several studies measured of one group, only what ranks highest; of equals the first."""
    best: dict[tuple[tuple[str, ...], str], MethodComparison] = {}
    for each in found:
        key = each.group.kind, each.of
        if key not in best or rank(each) > rank(best[key]):
            best[key] = each
    return list(best.values())
