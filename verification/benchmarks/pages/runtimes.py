"""What the patterns of runtimes cost in quality, beside the speed-up that each runtime reports."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

from verification.benchmarks.pages.families import measured
from verification.benchmarks.pages.page import Page
from verification.benchmarks.pages.studies import Results, StudyRuns, geometric
from verification.benchmarks.pages.style import WIDTH, log_axis
from verification.benchmarks.pages.tables import markdown, perplexity

HEADINGS = ["pattern", "runtime", "times faster", "figure of"]
# Speed of compact layers in Transformers, from our own results: docs/study/inference.md.
OWN = "structured:0.3"


@dataclass(frozen=True)
class SpeedUp:
    """What a runtime says about a pattern; the fields are those of `runtimes.toml`."""

    pattern: str
    runtime: str
    speed_up: float
    what: str
    bound: bool = False

    @property
    def shown(self) -> str:
        """The number, and whether it is a limit."""
        return f"{'at most ' if self.bound else ''}{self.speed_up:.2f}"


def speed_ups(results: Results) -> list[SpeedUp]:
    """What runtimes report, and what was measured here on a CPU."""
    text = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    reported = [SpeedUp(**each) for each in tomllib.loads(text)["speed_up"]]
    for run in results.content("inference")["runs"]:
        if (run["run"]["pattern"], run["run"]["form"]) == (OWN, "compact"):
            ratio = run["latency"]["prefill"]["ratio"]["median"]
            own = SpeedUp(OWN, "Transformers", 1 / ratio, "SmolLM2-135M, prefill on a CPU, here")
            return [*reported, own]
    raise ValueError(f"the results of inference have no compact run of {OWN}")


def rows(results: Results) -> Iterator[list[str]]:
    """A row for each pattern. Columns: HEADINGS, then the perplexity of each model."""
    studies = measured(results).values()
    for each in speed_ups(results):
        values = [_perplexity(study, each.pattern) for study in studies]
        shown = [perplexity(value) if value else "" for value in values]
        yield [each.pattern, each.runtime, each.shown, each.what, *shown]


def _perplexity(study: StudyRuns, pattern: str) -> float | None:
    """The perplexity of Thanos over the draws; None if the pattern does not fit the model."""
    runs = [
        runs
        for runs in study.runs.values()
        if (runs[0]["run"]["method"], runs[0]["run"]["pattern"]) == ("thanos", pattern)
    ]
    return geometric(runs[0]) if runs else None


def _table(results: Results) -> str:
    studies = measured(results)
    dense = [
        "dense",
        "",
        "1.00",
        "",
        *(perplexity(s.dense["perplexity"]) for s in studies.values()),
    ]
    headings = [*HEADINGS, *(model.label for model in studies)]
    return markdown(headings, [dense, *rows(results)], left=2)


def _picture(results: Results) -> Any:
    """Perplexity by Thanos against the reported speed-up: a panel for each model."""
    studies = measured(results)
    figure, panels = plt.subplots(
        len(studies),
        1,
        figsize=(WIDTH, 0.6 + 2.9 * len(studies)),
        sharex=True,
        layout="constrained",
        squeeze=False,
    )
    for panel, (model, study) in zip(panels[:, 0], studies.items(), strict=True):
        dense = study.dense["perplexity"]
        panel.axhline(dense, color="black", linewidth=1, linestyle="--")
        for each in speed_ups(results):
            if value := _perplexity(study, each.pattern):
                face = "none" if each.bound else "tab:blue"
                panel.plot(each.speed_up, value, "o", color="tab:blue", markerfacecolor=face)
                text = f"{each.pattern}, {each.runtime}"
                place = {"xytext": (8, 0), "textcoords": "offset points", "va": "center"}
                panel.annotate(text, (each.speed_up, value), fontsize=8, **place)
        log_axis(panel.yaxis)
        panel.set(xlim=(0.95, 1.8), ylabel="perplexity (log scale)")
        panel.margins(y=0.15)
        panel.set_title(f"{model.label}; dashed: dense, {dense:.1f}", fontsize=10, loc="left")
    figure.supxlabel("times faster, as the runtime reports; hollow: a limit", fontsize=9)
    return figure


RUNTIMES = Page(
    "runtimes",
    "Who runs which pattern faster, and what it costs",
    {"runtimes patterns": _table},
    {"runtimes": _picture},
)
