"""The page on what the paper says of Thanos, held against what was measured here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib import pyplot as plt

from thanos_torch.models import DEFAULT_MODEL
from verification.benchmarks.pages import zero_shot
from verification.benchmarks.pages.groups import (
    OTHERS,
    RUINED,
    MethodComparison,
    against_best,
    groups,
    once,
)
from verification.benchmarks.pages.names import readable
from verification.benchmarks.pages.page import Page, Sources, joined, links
from verification.benchmarks.pages.pairs import INTERVALS, percent
from verification.benchmarks.pages.style import VERDICTS, change_axis, draw_change, save
from verification.benchmarks.pages.tables import lines, markdown, span
from verification.benchmarks.quality.profiles import HEADLINES, SEEDS

WHOLE_TEST_SET = tuple(f"{topic}-{seed}" for seed in SEEDS for topic, _ in HEADLINES)
# A study that has parts is one: the range of sparsities, or the draws.
STUDIES = (
    ("sweep-low", "sweep-high"),
    ("quick",),
    ("outliers",),
    ("patterns",),
    tuple(f"components-{seed}" for seed in SEEDS),
    WHOLE_TEST_SET,
)
NAMES = tuple(name for parts in STUDIES for name in parts)


@dataclass(frozen=True)
class Claim:
    """Something that the paper says, and how it shows if it is so: lower perplexity.

    said      in our words
    where     in the paper
    patterns  what one of the patterns begins with, as text
    better    label of the run that should be better
    than      labels of those that it should be better than: than the best of them
    """

    said: str
    where: str
    patterns: tuple[str, ...]
    better: str
    than: tuple[str, ...]


UNSTRUCTURED, STRUCTURED, SEMI = ("unstructured",), ("structured",), ("4:8", "2:4")
FEW = "thanos, outlier rows 0.1"
CLAIMS = (
    Claim("Thanos is better than other methods in unstructured pruning", "abstract",
          UNSTRUCTURED, "thanos", OTHERS),
    Claim("Thanos is better than other methods in n:m pruning", "tables, 4:8 and 2:4",
          SEMI, "thanos", OTHERS),
    Claim("Thanos is the best in structured pruning", "abstract",
          STRUCTURED, "thanos", OTHERS),
    Claim("Outlier rows help structured pruning", "tables, α = 0.1", STRUCTURED, FEW, ("thanos",)),
    Claim("Outlier rows help n:m pruning", "tables, α = 0.1", SEMI, FEW, ("thanos",)),
    Claim("Masks that adapt to the weights of the moment help", "abstract",
          UNSTRUCTURED, "thanos", ("thanos, adaptive False",)),
    Claim("Removing a block's picks jointly is better than one after another", "the method itself",
          UNSTRUCTURED, "thanos", ("thanos, update sequential",)),
)  # fmt: skip

HEADINGS = ["claim", "model, pattern, calibration text", "perplexity", "dense", "against", "difference",
            "draws", "verdict"]  # fmt: skip


def cases(claim: Claim, sources: Sources) -> list[MethodComparison]:
    """All that was measured of a claim: of each model and pattern, on the most draws, against the most rivals."""
    found = (
        against_best(group, claim.better, claim.than)
        for group in groups(sources, STUDIES)
        if group.pattern.startswith(claim.patterns)
    )
    return once((each for each in found if each), lambda each: (each.draws, len(each.rivals)))


def outcome(found: Sequence[MethodComparison]) -> str:
    """Plainly, whether a claim holds here; on how little that rests; ruined models count apart."""
    if not found:
        return "not measured yet"
    kinds: dict[str, list[MethodComparison]] = {}
    for case in sorted(found, key=lambda case: not case.usable):
        kinds.setdefault(_where(case), []).append(case)
    return "; ".join(f"{where}: {_held(some)}, {_basis(some)}" for where, some in kinds.items())


def _where(case: MethodComparison) -> str:
    if not case.usable:
        return "where every model is ruined"
    return f"on {case.group.model}"


def _basis(found: Sequence[MethodComparison]) -> str:
    draws = {case.draws for case in found}
    if draws == {1}:
        told = "on one draw" + (" each" if len(found) > 1 else "")
    else:
        told = f"on {span(draws, str)} draws"
    few = sum(_against_others(case) and len(case.rivals) < len(OTHERS) for case in found)
    if not few:
        return told
    return f"{told}, {few} of {len(found)} against fewer than the {len(OTHERS)} other methods"


def _against_others(case: MethodComparison) -> bool:
    """Whether it is held against other methods, not against Thanos in another setting."""
    return case.rivals[0] in OTHERS


def _held(found: Sequence[MethodComparison]) -> str:
    counts = {word: sum(case.shown == word for case in found) for word in VERDICTS}
    lower, higher = (f"{counts[word]} of {len(found)}" for word in ("lower", "higher"))
    if counts["lower"] == len(found):
        return f"**shown**, in all {len(found)} cases" if len(found) > 1 else "**shown**"
    if not counts["lower"] and not counts["higher"]:
        return "**not shown**, nor the contrary"
    if not counts["lower"]:
        return f"**contradicted**, in {higher} cases, shown in none"
    if not counts["higher"]:
        return f"**shown in part**, in {lower} cases"
    return f"**shown in part**, in {lower} cases, **contradicted** in {higher}"


def text(sources: Sources) -> str:
    """Answers, plot, table."""
    found = {claim: cases(claim, sources) for claim in CLAIMS}
    rows = [
        [
            f"{number}",
            case.group.name,
            f"{case.perplexity:.2f}",
            f"{case.group.dense:.2f}",
            _against(case),
            percent(case.perplexity_ratio),
            f"{case.draws}",
            case.shown + case.remark,
        ]
        for number, some in enumerate(found.values(), 1)
        for case in some
    ]
    return f"""# Do the paper's claims hold here?

{lines(f"{number}. {claim.said} ({claim.where}): {outcome(some)}." for number, (claim, some) in enumerate(found.items(), 1))}
{len(CLAIMS) + 1}. Thanos is better than other methods in zero-shot tasks (tables): {_in_tasks(sources)}.

*Here* is SmolLM2-135M, far smaller than the paper's models. A claim counts as shown in a case where perplexity is
lower, and as contradicted where it is higher, if the 95 % interval leaves out 0 %. None is corrected for the number of comparisons: where there is no difference,
one case in forty would count as shown by chance, and one as contradicted. Cases where even the better model has more than {RUINED} times the dense
perplexity are *ruined* and count apart: who is better there is of no use. Of what several studies measured, the one with the most draws counts, also
where it is against fewer methods. Claims are about perplexity, but for the last, which is in points of accuracy, in 2:4: its numbers are on the page of the
[headline](headline.md). What pruning costs: [cost](cost.md).

![Perplexity of what should be better](claims.png)

{markdown(HEADINGS, rows, left=2)}

- {INTERVALS}.

*Perplexity*: of the method that the claim is about. *Against*: the best of magnitude, Wanda and SparseGPT, in brackets of how many of them that
study has; or Thanos without what the claim is about. Commands, commits and machines are on the pages of
the studies: {links(sources, NAMES)}.
"""


def _in_tasks(sources: Sources) -> str:
    """The claim on accuracy, over the draws of the headline."""
    if not any(name in sources for name in WHOLE_TEST_SET):
        return "not measured yet"
    records = joined(sources, WHOLE_TEST_SET)["runs"]
    return f"on {DEFAULT_MODEL}, {zero_shot.claimed(records, 'thanos', OTHERS)}"


def _against(case: MethodComparison) -> str:
    of = f" (of {len(case.rivals)})" if _against_others(case) else ""
    return readable(case.than) + of


def draw(sources: Sources, folder: Path) -> None:
    """Write claims.png: a point and its interval for every case."""
    rows: list[tuple[str, MethodComparison | None]] = []
    for claim in CLAIMS:
        some = cases(claim, sources)
        if some:
            rows += [
                (claim.said, None),
                *(
                    (f"{case.group.name}, against {readable(case.than)}{case.remark}", case)
                    for case in some
                ),
            ]
    figure, panel = plt.subplots(figsize=(9, 0.8 + 0.24 * len(rows)))
    for at, (_, case) in enumerate(rows):
        if case:
            colour = VERDICTS[case.shown]
            draw_change(panel, at, case.perplexity_ratio, colour, colour, 4)
    panel.axvline(0, color="black", linewidth=1)
    change_axis(panel.xaxis, linear=5)
    panel.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
    for tick, (_, case) in zip(panel.get_yticklabels(), rows, strict=True):
        if case is None:
            tick.set_fontweight("bold")
    panel.invert_yaxis()
    panel.set_xlabel("perplexity, % (linear within ±5): left of 0 the claim holds; grey: not shown")
    save(figure, folder / "claims.png")


CLAIMS_PAGE = Page("claims", "Do the paper's claims hold here?", NAMES, text, draw, whole=False)
