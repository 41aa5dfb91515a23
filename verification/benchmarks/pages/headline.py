"""The page of the headline table: the whole test set, seven tasks, several draws."""

from pathlib import Path

from matplotlib import pyplot as plt

from verification.benchmarks.pages import zero_shot
from verification.benchmarks.pages.changes import answer, change_table, changes, meaning
from verification.benchmarks.pages.page import Page, Sources, joined
from verification.benchmarks.pages.style import COLOURS, log_axis, save
from verification.benchmarks.pages.tables import common, lines, markdown, protocol, source, verdict
from verification.benchmarks.quality.plan import label
from verification.benchmarks.quality.profiles import HEADLINE_QUESTION, HEADLINES, SEEDS

STUDIES = tuple(f"{topic}-{seed}" for seed in SEEDS for topic, _ in HEADLINES)
BASE = "sparsegpt"


def text(sources: Sources) -> str:
    """Answer and tables."""
    results = joined(sources, STUDIES)
    found = changes(results["runs"], BASE)
    return f"""# {HEADLINE_QUESTION}

{lines([answer(found), zero_shot.ranks(results["runs"])])}

The first row is SparseGPT{_extent(sources)}. {common(results)}

{markdown(*change_table(found))}

{meaning(results)}

{zero_shot.section(results["runs"], BASE)}

{protocol(results)} {verdict(results)}

{source(results)}

![Perplexity of every draw](headline.png)
"""


def _extent(sources: Sources) -> str:
    """How far the measurements go, while they are not all there."""
    missing = [f"`{name}`" for name in STUDIES if name not in sources]
    return f" (not measured yet: {', '.join(missing)})" if missing else ""


def draw(sources: Sources, folder: Path) -> None:
    """Write headline.png."""
    results = joined(sources, STUDIES)
    names = list(dict.fromkeys(label(record["run"]) for record in results["runs"]))
    figure, panel = plt.subplots(figsize=(7, 3.4))
    for record in results["runs"]:
        name = label(record["run"])
        colour = COLOURS.get(name, "black")
        panel.plot([record["perplexity"]], [names.index(name)], "o", color=colour, alpha=0.7)
    panel.set_yticks(range(len(names)), names)
    panel.invert_yaxis()
    log_axis(panel.xaxis)
    panel.set(xlabel="perplexity, a point for every calibration draw (log scale)")
    save(figure, folder / "headline.png")


HEADLINE = Page("headline", HEADLINE_QUESTION, STUDIES, text, draw, whole=False)
