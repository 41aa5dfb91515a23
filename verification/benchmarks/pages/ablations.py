"""The pages on what components, settings and the calibration text contribute.

Each draw is a study of its own; a page shows those that are measured.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

from verification.benchmarks.pages.block_sizes import block_size_answer, block_size_figure
from verification.benchmarks.pages.changes import (
    VariantChange,
    answer,
    change_table,
    changes,
    meaning,
)
from verification.benchmarks.pages.page import Page, Sources, joined
from verification.benchmarks.pages.style import COLOURS, change_axis, draw_change, save
from verification.benchmarks.pages.tables import (
    common,
    lines,
    markdown,
    protocol,
    source,
    verdict,
)
from verification.benchmarks.quality.profiles import SEEDS


@dataclass(frozen=True)
class Detail:
    """What a page shows besides: a line of its answer, and a plot called `name`.png; of its records."""

    name: str
    shown: str
    answer: Callable[[Sequence[dict[str, Any]]], str]
    figure: Callable[[Sequence[dict[str, Any]]], Any]


def _studies(name: str) -> tuple[str, ...]:
    return tuple(f"{name}-{seed}" for seed in SEEDS)


def _page(
    title: str, sources: Sources, name: str, explained: str, details: Sequence[Detail] = ()
) -> str:
    results = joined(sources, _studies(name))
    found = changes(results["runs"], "thanos")
    return f"""# {title}

{lines([answer(found), *(each.answer(results["runs"]) for each in details)])}

{explained} {common(results)}{_draws(sources)}

{markdown(*change_table(found))}

{meaning(results)}

{protocol(results)} {verdict(results)}

{source(results)}

{_pictures(("Perplexity against the first row of the table", name), *((each.shown, each.name) for each in details))}
"""


def _pictures(*shown: tuple[str, str]) -> str:
    return "\n\n".join(f"![{what}]({name}.png)" for what, name in shown)


def _draws(sources: Sources) -> str:
    """How far the measurements go, while they are not all there."""
    if len(sources) == len(SEEDS):
        return ""
    return f" Measured so far: {len(sources)} of the {len(SEEDS)} calibration draws of the plan."


def _draw(name: str, sources: Sources, folder: Path, details: Sequence[Detail] = ()) -> None:
    results = joined(sources, _studies(name))
    save(forest(changes(results["runs"], "thanos")[1:]), folder / f"{name}.png")
    for each in details:
        save(each.figure(results["runs"]), folder / f"{each.name}.png")


def forest(found: list[VariantChange]) -> Any:
    """Perplexity against the base: a point and its interval for every setting."""
    figure, panel = plt.subplots(figsize=(8, 0.6 + 0.32 * len(found)))
    for row, each in enumerate(reversed(found)):
        draw_change(panel, row, each.perplexity_ratio, COLOURS["thanos"], "#777777", 6)
    panel.axvline(0, color="black", linewidth=1)
    change_axis(panel.xaxis, linear=10)
    panel.set_yticks(range(len(found)), [each.name for each in reversed(found)])
    panel.set_xlabel("perplexity against the first row of the table, % (linear within ±10)")
    return figure


def _ablation(name: str, question: str, explained: str, details: Sequence[Detail] = ()) -> Page:
    """The page of a topic, whose first setting the others are held against."""
    return Page(
        name,
        question,
        _studies(name),
        lambda sources: _page(question, sources, name, explained, details),
        lambda sources, folder: _draw(name, sources, folder, details),
        whole=False,
    )


COMPONENTS = _ablation(
    "components",
    "What does each component contribute?",
    "The first row is the paper's algorithm, with blocks of 128 columns where the paper has 512 in this pattern ([settings](settings.md) compares them). "
    "Every other row changes what it names: the mask fixed from the start instead of adaptive (`adaptive=False`), a count for each block instead of "
    "a global one (`residual='local'`), a block's columns removed one after another instead of jointly (`update='sequential'`), other scores than "
    "Wanda's (`metric`), another method, or a refit, of which [a page of its own](refit.md) says more.",
)
SETTINGS = _ablation(
    "settings",
    "How much do block size and damping matter?",
    "The first row has blocks of 128 columns and damping 0.01; every other row changes one of them, or refits one of the three masks. The paper has "
    "blocks of 512 in this pattern. Blocks of 2048 columns hold every layer whole: the widest has 1536.",
    [Detail("settings-block-size", "Thanos by block size", block_size_answer, block_size_figure)],
)
CALIBRATION = _ablation(
    "calibration",
    "How much does the calibration text matter?",
    "The row *calibrated on wikitext2* reads the validation part of the text whose test part gives the perplexity: it shows what calibrating in the "
    "style of the evaluation is worth, not that one text is better than another. The *error* is measured on C4 in all rows, which favours those that "
    "are calibrated on it. The first row is calibrated as named below; every other row reads "
    "fewer windows or another text, or refits one of the three masks. Draws of another text have nothing but their number in common with the first row's. More than 32,768 tokens were not tried; the paper reads 262,144.",
)
