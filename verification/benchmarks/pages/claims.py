"""The page on what the paper says of Thanos, held against what was measured here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from matplotlib import pyplot as plt

from verification.benchmarks.pages.page import Page, Sources, joined
from verification.benchmarks.pages.ratios import Record, paired_perplexity, percent
from verification.benchmarks.pages.style import change_axis, save
from verification.benchmarks.pages.tables import lines, markdown
from verification.benchmarks.statistics import Estimate, difference, in_words
from verification.benchmarks.studies.plan import family, label
from verification.benchmarks.studies.profiles import SEEDS

OTHERS = ("magnitude", "wanda", "sparsegpt")
SWEEPS, QUICK, ARCHITECTURES, OUTLIER_ROWS = (
    ("sweep-low", "sweep-high"),
    "quick",
    "architectures",
    "outliers",
)
COMPONENT_DRAWS = tuple(f"components-{seed}" for seed in SEEDS)
STUDIES = (*SWEEPS, ARCHITECTURES, QUICK, OUTLIER_ROWS, *COMPONENT_DRAWS)
COLOURS = {"lower": "#009E73", "higher": "#D55E00", "not shown to differ": "#777777"}


@dataclass(frozen=True)
class Claim:
    """Something that the paper says, and how it shows if it is so: lower perplexity.

    said     in our words
    where    in the paper
    studies  that measured it
    pattern  what patterns begin with, as text
    better   label of the run that should be better
    than     labels of those that it should be better than: than the best of them
    """

    said: str
    where: str
    studies: tuple[str, ...]
    pattern: str
    better: str
    than: tuple[str, ...]


CLAIMS = (
    Claim("Thanos is better than other methods in unstructured pruning", "abstract",
          (*SWEEPS, ARCHITECTURES), "unstructured", "thanos", OTHERS),
    Claim("Thanos is the best in structured pruning", "abstract",
          (ARCHITECTURES, QUICK), "structured", "thanos", OTHERS),
    Claim("Outlier rows help structured pruning", "tables, α = 0.1",
          (ARCHITECTURES, OUTLIER_ROWS), "structured", "thanos, outlier rows 0.1", ("thanos",)),
    Claim("Masks that adapt to the weights of the moment help", "abstract",
          COMPONENT_DRAWS, "unstructured", "thanos", ("thanos, adaptive False",)),
    Claim("Removing a block's picks jointly is better than one after another", "the method itself",
          COMPONENT_DRAWS, "unstructured", "thanos", ("thanos, update sequential",)),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One model and pattern on which a claim was tried.

    ratio  of perplexities: of what should be better to the best of the others
    draws  calibration draws that both have
    """

    name: str
    than: str
    ratio: Estimate
    draws: int

    @property
    def verdict(self) -> str:
        """In words: lower, higher, not shown to differ."""
        return in_words(difference(self.ratio))


def cases(claim: Claim, sources: Sources) -> Iterator[Case]:
    """All that was measured of a claim."""
    grouped: dict[tuple[str, ...], dict[str, dict[int, Record]]] = {}
    runs = joined(sources, claim.studies)["runs"] if sources.keys() & {*claim.studies} else []
    for record in runs:
        if "layers" in record and family(record["run"]).startswith(claim.pattern):
            by_label = grouped.setdefault(_kind(record), {})
            draws = by_label.setdefault(label(record["run"]), {})
            draws[record["calibration"]["seed"]] = record
    for (model, pattern, dataset, *_), by_label in grouped.items():
        others = [name for name in claim.than if name in by_label]
        if claim.better not in by_label or not others:
            continue
        own = by_label[claim.better]
        best = min(others, key=lambda name: _mean_perplexity(by_label[name]))
        shared = sorted(own.keys() & by_label[best].keys())
        if shared:
            ratio = paired_perplexity(
                [by_label[best][seed] for seed in shared], [own[seed] for seed in shared]
            )
            name = f"{model}, {pattern}, {dataset}"
            yield Case(name, best, ratio, len(shared))


def _kind(record: Record) -> tuple[str, ...]:
    """What runs must share to be compared, apart from the draw."""
    text = record["calibration"]
    size = f"{text['nsamples']} x {text['seqlen']}"
    shared = record["model"], family(record["run"]), text["dataset"], size
    return *shared, str(record["evaluation"])


def _mean_perplexity(draws: dict[int, Record]) -> float:
    return float(mean(record["perplexity"] for record in draws.values()))


def outcome(found: Sequence[Case]) -> str:
    """Plainly, whether a claim holds here."""
    counts = {word: sum(case.verdict == word for case in found) for word in COLOURS}
    if not found:
        return "not measured yet"
    if counts["lower"] == len(found):
        return "**holds** here"
    if counts["higher"] == len(found):
        return "**does not hold** here: the contrary was measured"
    if not counts["lower"] and not counts["higher"]:
        return "**not shown** here, nor the contrary"
    if not counts["lower"]:
        return f"**does not hold** here: the contrary in {counts['higher']} of {len(found)} cases"
    if not counts["higher"]:
        return f"**holds in part**: in {counts['lower']} of {len(found)} cases, not shown in the others"
    return f"**does not always hold**: in {counts['lower']} of {len(found)} cases; the contrary in {counts['higher']}"


def text(sources: Sources) -> str:
    """Answers, plot, table."""
    found = {claim: list(cases(claim, sources)) for claim in CLAIMS}
    rows = [
        [claim.said, case.name, case.than, f"{case.draws}", percent(case.ratio), case.verdict]
        for claim, some in found.items()
        for case in some
    ]
    return f"""# Do the paper's claims hold here?

{lines(f"- {claim.said} ({claim.where}): {outcome(some)}." for claim, some in found.items())}

*Here* are SmolLM2-135M and models of 2 million parameters, far smaller than the paper's. A claim counts as measured where perplexity is lower and
its 95 % interval leaves out 0 %: over calibration draws where there are several, else over windows of the evaluation text, which says nothing
of other draws. None is corrected for the number of comparisons: one in twenty would be called by chance.

![Perplexity of what should be better](claims.png)

{markdown(["claim", "model, pattern, calibration text", "against", "draws", "perplexity", "verdict"], rows, left=3)}

*Against*: the best of magnitude, Wanda and SparseGPT as far as that study has them, or Thanos without what the claim is about. Commands, commits and machines
are on the pages of the studies: {_pages(sources)}.
"""


def _pages(sources: Sources) -> str:
    """Links to the pages of what was measured: a study for each draw or range has one with others."""
    names = dict.fromkeys(name.partition("-")[0] for name in STUDIES if name in sources)
    return ", ".join(f"[{name}]({name}.md)" for name in names)


def draw(sources: Sources, folder: Path) -> None:
    """Write claims.png: a point and its interval for every case."""
    rows: list[tuple[str, Case | None]] = []
    for claim in CLAIMS:
        some = list(cases(claim, sources))
        if some:
            rows += [
                (claim.said, None),
                *((f"{case.name}, against {case.than}", case) for case in some),
            ]
    figure, panel = plt.subplots(figsize=(9, 0.8 + 0.24 * len(rows)))
    for at, (_, case) in enumerate(rows):
        if case is None:
            continue
        low, high = case.ratio.low, case.ratio.high
        colour = COLOURS[case.verdict]
        if low is not None and high is not None:
            panel.plot([100 * (low - 1), 100 * (high - 1)], [at, at], color=colour, linewidth=2)
        panel.plot([100 * (case.ratio.value - 1)], [at], "o", color=colour, markersize=4)
    panel.axvline(0, color="black", linewidth=1)
    change_axis(panel.xaxis, linear=5)
    panel.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
    for tick, (_, case) in zip(panel.get_yticklabels(), rows, strict=True):
        if case is None:
            tick.set_fontweight("bold")
    panel.invert_yaxis()
    panel.set_xlabel("perplexity, % (linear within ±5): left of 0 the claim holds")
    save(figure, folder / "claims.png")


CLAIMS_PAGE = Page("claims", "Do the paper's claims hold here?", STUDIES, text, draw, whole=False)
