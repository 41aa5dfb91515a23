"""The page of the quick benchmark."""

from collections.abc import Iterator

from verification.benchmarks.pages.groups import against_best, groups
from verification.benchmarks.pages.page import Page, Sources
from verification.benchmarks.pages.pairs import INTERVALS, percent
from verification.benchmarks.pages.quick_plots import draw_quick
from verification.benchmarks.pages.tables import lines, protocol, source, summary, timing, verdict

BASES = ("sparsegpt", "thanos")


def _answers(sources: Sources) -> Iterator[str]:
    """In every pattern, all against SparseGPT, and against Thanos."""
    for group in groups(sources, [("quick",)]):
        for base in BASES:
            compared = (against_best(group, name, (base,)) for name in group.runs if name != base)
            told = [
                f"{each.of} {each.shown} ({percent(each.perplexity_ratio)})"
                for each in compared
                if each
            ]
            if told:
                yield f"- **{group.pattern}, against {base}**: {'; '.join(told)}."


def text(sources: Sources) -> str:
    """Answers, table, what its columns are, and plots."""
    results = sources["quick"]
    return f"""# Quick benchmark

Perplexity against another method, of one calibration draw, with 95 % intervals:

{lines(_answers(sources))}

{protocol(results)} {verdict(results)}

{summary(results)}

- {INTERVALS}.
- In 2:4, two of every four weights are zeros. Structured runs remove whole columns.
- *Layer error*: tr(D G Dᵀ) / tr(W G Wᵀ), D = Ŵ − W, mean over the layers, with the Gram matrix that the layer was
  pruned with. *With dense inputs*: with the dense model's Gram matrices, the same for all runs, on windows drawn
  apart from those of the calibration: from the same text, so a few tokens may be in both.
- Not here, as this profile is to end in a quarter of an hour: magnitude and Wanda, refits in unstructured and structured pruning, and
  SparseGPT in unstructured pruning. They are on the pages of the [sweep](sweep.md) and of the [patterns](patterns.md).
- *Refit*: ten steps for the kept weights of the final mask, [section 7](../specification.md#7-beyond-the-paper).
- *Pruning s*: {timing(results)}.
- *Peak* is the memory of the whole process up to the end of pruning.
- *Certified*: counts and masks, and the update where the method has one.

{source(results)}

![Perplexity by method and pattern](quick-perplexity.png)

![Layer error by depth](quick-layer-error.png)

![Where the zeros are](quick-zeros.png)
"""


QUICK = Page("quick", "What do the methods do to a small model?", ("quick",), text, draw_quick)
