"""The page on refits: what ten more products buy, against each method without them."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from statistics import median

from matplotlib import pyplot as plt

from verification.benchmarks.pages.groups import (
    RUINED,
    MethodComparison,
    against_best,
    groups,
    once,
)
from verification.benchmarks.pages.page import Page, Sources, links
from verification.benchmarks.pages.pairs import INTERVALS, percent, signed
from verification.benchmarks.pages.style import VERDICTS, change_axis, draw_change, save
from verification.benchmarks.pages.tables import lines, markdown, span
from verification.benchmarks.quality.profiles import ABLATIONS, HEADLINES, SEEDS
from verification.benchmarks.statistics import added_percent

# What is compared on the same machine is one study.
STUDIES = (
    ("sweep-low", "sweep-high"),
    tuple(f"{topic}-{seed}" for seed in SEEDS for topic, *_ in ABLATIONS),
    tuple(f"{topic}-{seed}" for seed in SEEDS for topic, *_ in HEADLINES),
    ("quick",),
    ("outliers",),
    ("patterns",),
)
NAMES = tuple(name for parts in STUDIES for name in parts)
# By what they are against: (what, against what).
AGAINST = {
    "the same method without it": (
        ("thanos + refit", "thanos"),
        ("sparsegpt + refit", "sparsegpt"),
        ("wanda + refit", "wanda"),
    ),
    "Thanos": (("sparsegpt + refit", "thanos"), ("wanda + refit", "thanos")),
    "SparseGPT": (("thanos + refit", "sparsegpt"), ("wanda + refit", "sparsegpt")),
    "refitted Thanos": (
        ("sparsegpt + refit", "thanos + refit"),
        ("wanda + refit", "thanos + refit"),
    ),
}
Found = dict[tuple[str, str], list[MethodComparison]]
HEADINGS = ["model, pattern, calibration text", "what", "against", "perplexity", "layer error", "times its pruning s",
            "draws", "verdict"]  # fmt: skip


def compared(sources: Sources) -> Found:
    """Every pair in every group that has both; of what two studies measured, the one with more draws."""
    every = list(groups(sources, STUDIES))
    found: Found = {}
    for of, than in chain(*AGAINST.values()):
        measured = (against_best(group, of, (than,)) for group in every)
        found[of, than] = once((each for each in measured if each), lambda each: each.draws)
    return found


def text(sources: Sources) -> str:
    """Answers, plot, tables."""
    found = compared(sources)
    return f"""# What does a refit buy?

A refit keeps a mask and moves the kept weights of every row towards their optimum, all at once, by ten conjugate-gradient steps: ten more products
with the Gram matrix ([section 7](../specification.md#7-beyond-the-paper)). On SmolLM2-135M, where the models are of use:

{lines(_answers(found))}

{_opposite(found)}

![Perplexity against another method](refit.png)

SmolLM2-135M:

{markdown(HEADINGS, [row for some in found.values() for row in map(_row, some)], left=3)}

- *Layer error*: with dense inputs, as on the pages of the studies. *Times its pruning s*: of all layers, in runs beside others that
  began up to hours apart: a rough guide. What a refit costs alone is measured on the page of [cost](cost.md). It depends on the shape of a layer, not on
  who chose its mask.
- Structured Thanos removes all its columns jointly and is its own refit ([section 7](../specification.md#7-beyond-the-paper)): it has no row.
- {INTERVALS}; none is corrected for their number. *Ruined*: even the better one has more than {RUINED} times the dense model's perplexity.
- Commands, commits and machines are on the pages of the studies: {links(sources, NAMES)}.
"""


def _answers(found: Found) -> Iterator[str]:
    for against, pairs in AGAINST.items():
        told = [_told(of, found[of, than]) for of, than in pairs if found[of, than]]
        if told:
            yield f"- **Against {against}**: {'; '.join(told)}."
    yield from _time([found[pair] for pair in AGAINST["the same method without it"]])


def _time(without: Sequence[Sequence[MethodComparison]]) -> Iterator[str]:
    """What a refit adds to each method, roughly: runs of one study may be of a fast and a slow hour."""
    medians = [median(each.seconds_ratio for each in some) for some in without if some]
    if medians:
        about = span(medians, "{:.0f}".format)
        yield (
            f"- **Time**: pruning takes about {about} times the seconds of the same method without it, in runs beside others that "
            "began up to hours apart; measured alone: [cost](cost.md)."
        )


def _told(of: str, found: Sequence[MethodComparison]) -> str:
    usable = [each for each in found if each.usable]
    if not usable:
        return f"{of}: only where every model is ruined"
    told = ", ".join(
        f"{word} in {count} of {len(usable)}" for word, count in _verdicts(usable).items() if count
    )
    perplexity, error, _ = _sizes(usable)
    return f"{of}: perplexity {told} ({perplexity}), layer error {error}"


def _verdicts(found: Sequence[MethodComparison]) -> dict[str, int]:
    return {word: sum(each.shown == word for each in found) for word in VERDICTS}


def _sizes(found: Sequence[MethodComparison]) -> list[str]:
    """How far perplexity and layer error change, and the seconds in the median."""
    changes = [added_percent(each.perplexity_ratio.value) for each in found]
    errors = [added_percent(each.error_ratio.value) for each in found]
    return [_span(changes), _span(errors), f"{median(each.seconds_ratio for each in found):.1f}"]


def _opposite(found: Found) -> str:
    """How often the layer error is a poor guide."""
    shown = [
        each for each in chain(*found.values()) if each.usable and each.shown in ("lower", "higher")
    ]
    against = [each for each in shown if (each.shown == "lower") != (each.error_ratio.value < 1)]
    return (
        f"A lower layer error does not promise a lower perplexity: in {len(against)} of the {len(shown)} comparisons where "
        "perplexity is shown to differ, the layer error goes the other way."
    )


def _span(values: Sequence[float]) -> str:
    return f"{span(values, lambda value: signed(value, 1))} %"


def _row(each: MethodComparison) -> list[str]:
    return [
        each.group.name,
        each.of,
        each.than,
        percent(each.perplexity_ratio),
        percent(each.error_ratio),
        f"{each.seconds_ratio:.1f}",
        f"{each.draws}",
        each.shown + each.remark,
    ]


def draw(sources: Sources, folder: Path) -> None:
    """Write refit.png: a panel a pair, a row a model and pattern that is of use."""
    found = {
        pair: [each for each in some if each.usable] for pair, some in compared(sources).items()
    }
    names = list(dict.fromkeys(each.group.name for some in found.values() for each in some))
    figure, panels = plt.subplots(
        3, 3, figsize=(11, 1.5 + 0.42 * len(names)), sharex=True, sharey=True, layout="constrained"
    )
    for panel, ((of, than), some) in zip(panels.flat, found.items(), strict=True):
        for each in some:
            colour = VERDICTS[each.shown]
            draw_change(
                panel, names.index(each.group.name), each.perplexity_ratio, colour, colour, 4
            )
        panel.axvline(0, color="black", linewidth=1)
        change_axis(panel.xaxis, linear=5, marked=(2, 5, 20))
        panel.set_title(f"{of}\nagainst {than}", fontsize=8)
        panel.set_yticks(range(len(names)), names, fontsize=7)
    panels[0][0].invert_yaxis()
    figure.supxlabel("perplexity, % (linear within ±5): left of 0 the refit wins", fontsize=9)
    save(figure, folder / "refit.png")


REFIT = Page("refit", "What does a refit buy?", NAMES, text, draw, whole=False)
