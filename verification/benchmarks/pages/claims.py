"""The page on what the paper says of Thanos, held against what was measured here."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib import pyplot as plt

from verification.benchmarks.pages.page import Page, Sources, joined
from verification.benchmarks.pages.ratios import Record, paired_perplexity, percent
from verification.benchmarks.pages.style import change_axis, draw_change, save
from verification.benchmarks.pages.tables import lines, markdown
from verification.benchmarks.statistics import Estimate, difference, geometric_mean, in_words
from verification.benchmarks.studies.plan import family, label
from verification.benchmarks.studies.profiles import SEEDS

OTHERS = ("magnitude", "wanda", "sparsegpt")
# A study that has parts is one: the range of sparsities, or the draws.
STUDIES = (
    ("sweep-low", "sweep-high"),
    ("architectures",),
    ("quick",),
    ("outliers",),
    tuple(f"components-{seed}" for seed in SEEDS),
)
NAMES = tuple(name for parts in STUDIES for name in parts)
COLOURS = {"lower": "#009E73", "higher": "#D55E00", "not shown to differ": "#777777"}


@dataclass(frozen=True)
class Claim:
    """Something that the paper says, and how it shows if it is so: lower perplexity.

    said     in our words
    where    in the paper
    pattern  what patterns begin with, as text
    better   label of the run that should be better
    than     labels of those that it should be better than: than the best of them
    """

    said: str
    where: str
    pattern: str
    better: str
    than: tuple[str, ...]


CLAIMS = (
    Claim("Thanos is better than other methods in unstructured pruning", "abstract",
          "unstructured", "thanos", OTHERS),
    Claim("Thanos is the best in structured pruning", "abstract",
          "structured", "thanos", OTHERS),
    Claim("Outlier rows help structured pruning", "tables, α = 0.1",
          "structured", "thanos, outlier rows 0.1", ("thanos",)),
    Claim("Masks that adapt to the weights of the moment help", "abstract",
          "unstructured", "thanos", ("thanos, adaptive False",)),
    Claim("Removing a block's picks jointly is better than one after another", "the method itself",
          "unstructured", "thanos", ("thanos, update sequential",)),
)  # fmt: skip

HEADINGS = ["claim", "model, pattern, calibration text", "perplexity", "against", "difference",
            "draws", "verdict"]  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One model and pattern on which a claim was tried.

    perplexity  of what should be better: geometric mean over the draws
    ratio       of perplexities: to the best of the others
    draws       calibration draws that both have
    """

    name: str
    than: str
    perplexity: float
    ratio: Estimate
    draws: int

    @property
    def verdict(self) -> str:
        """In words: lower, higher, not shown to differ."""
        return in_words(difference(self.ratio))


def cases(claim: Claim, sources: Sources) -> Iterator[Case]:
    """All that was measured of a claim, study by study."""
    for parts in STUDIES:
        if not sources.keys() & {*parts}:
            continue
        grouped: dict[tuple[str, ...], dict[str, dict[int, Record]]] = {}
        for record in joined(sources, parts)["runs"]:
            if "layers" in record and family(record["run"]).startswith(claim.pattern):
                by_label = grouped.setdefault(_kind(record), {})
                draws = by_label.setdefault(label(record["run"]), {})
                draws[record["calibration"]["seed"]] = record
        for kind, by_label in grouped.items():
            yield from _case(claim, kind, by_label)


def _kind(record: Record) -> tuple[str, ...]:
    """What runs must share to be compared, apart from the draw."""
    text = record["calibration"]
    size = f"{text['nsamples']} x {text['seqlen']}"
    return record["model"], family(record["run"]), text["dataset"], size


def _case(
    claim: Claim, kind: tuple[str, ...], by_label: Mapping[str, Mapping[int, Record]]
) -> Iterator[Case]:
    """The run that should be better, against the best of the others on the draws of all."""
    names = [name for name in (claim.better, *claim.than) if name in by_label]
    if claim.better not in names or len(names) == 1:
        return
    shared = sorted(set.intersection(*({*by_label[name]} for name in names)))
    if not shared:
        return
    own, *others = ([by_label[name][seed] for seed in shared] for name in names)
    ratio, than = max(
        (
            (paired_perplexity(other, own), name)
            for other, name in zip(others, names[1:], strict=True)
        ),
        key=lambda each: each[0].value,
    )
    perplexity = geometric_mean([record["perplexity"] for record in own]).value
    yield Case(", ".join(kind[:3]), than, perplexity, ratio, len(shared))


def outcome(found: Sequence[Case]) -> str:
    """Plainly, whether a claim holds here; and on how little that rests."""
    if not found:
        return "not measured yet"
    draws = {case.draws for case in found}
    basis = (
        "on one draw" + (" each" if len(found) > 1 else "")
        if draws == {1}
        else f"on {_span(draws)} draws"
    )
    return f"{_held(found)}, {basis}"


def _held(found: Sequence[Case]) -> str:
    counts = {word: sum(case.verdict == word for case in found) for word in COLOURS}
    lower, higher = (f"{counts[word]} of {len(found)}" for word in ("lower", "higher"))
    if counts["lower"] == len(found):
        return f"**shown** in all {len(found)} cases" if len(found) > 1 else "**shown**"
    if not counts["lower"] and not counts["higher"]:
        return "**not shown**, nor the contrary"
    if not counts["lower"]:
        return f"**contradicted** in {higher} cases, shown in none"
    if not counts["higher"]:
        return f"**shown in part**: in {lower} cases"
    return f"**shown in part**: in {lower} cases, **contradicted** in {higher}"


def _span(draws: Collection[int]) -> str:
    return f"{min(draws)} to {max(draws)}" if len(draws) > 1 else str(max(draws))


def text(sources: Sources) -> str:
    """Answers, plot, table."""
    found = {claim: list(cases(claim, sources)) for claim in CLAIMS}
    rows = [
        [
            f"{number}",
            case.name,
            f"{case.perplexity:.2f}",
            case.than,
            percent(case.ratio),
            f"{case.draws}",
            case.verdict,
        ]
        for number, some in enumerate(found.values(), 1)
        for case in some
    ]
    return f"""# Do the paper's claims hold here?

{lines(f"{number}. {claim.said} ({claim.where}): {outcome(some)}." for number, (claim, some) in enumerate(found.items(), 1))}

*Here* are SmolLM2-135M and models of 2 million parameters, far smaller than the paper's. A claim counts as shown in a case where perplexity is
lower, and as contradicted where it is higher, if the 95 % interval leaves out 0 %: over calibration draws where there are several, else over
windows of the evaluation text, which says nothing of other draws. None is corrected for the number of comparisons: where there is no difference,
one case in forty would count as shown by chance, and one as contradicted.

![Perplexity of what should be better](claims.png)

{markdown(HEADINGS, rows, left=2)}

*Perplexity*: of the method that the claim is about; where it is in the thousands, the lower one is of no more use. *Against*: the best of magnitude, Wanda and SparseGPT in that study, as far as it has them, or Thanos without what the claim is about. Commands, commits and machines
are on the pages of the studies: {_pages(sources)}.
"""


def _pages(sources: Sources) -> str:
    """Links to the pages of what was measured: a study for each draw or range has one with others."""
    names = dict.fromkeys(name.partition("-")[0] for name in NAMES if name in sources)
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
        if case:
            colour = COLOURS[case.verdict]
            draw_change(panel, at, case.ratio, colour, colour, 4)
    panel.axvline(0, color="black", linewidth=1)
    change_axis(panel.xaxis, linear=5)
    panel.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
    for tick, (_, case) in zip(panel.get_yticklabels(), rows, strict=True):
        if case is None:
            tick.set_fontweight("bold")
    panel.invert_yaxis()
    panel.set_xlabel("perplexity, % (linear within ±5): left of 0 the claim holds")
    save(figure, folder / "claims.png")


CLAIMS_PAGE = Page("claims", "Do the paper's claims hold here?", NAMES, text, draw, whole=False)
