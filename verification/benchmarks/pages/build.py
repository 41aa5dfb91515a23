"""Fills tables and numbers into the pages and draws their pictures: `make report`."""

import argparse
from pathlib import Path

from thanos_torch.runtime.files import whole_file
from verification.benchmarks.pages.cost import COST, SPEED
from verification.benchmarks.pages.families import FAMILIES_PAGE
from verification.benchmarks.pages.gpu import GPU
from verification.benchmarks.pages.inference import INFERENCE, SIZE
from verification.benchmarks.pages.marks import fill
from verification.benchmarks.pages.models import MODELS
from verification.benchmarks.pages.numbers import number
from verification.benchmarks.pages.page import Page
from verification.benchmarks.pages.paper_models import PAPER_MODELS
from verification.benchmarks.pages.quality import QUALITY
from verification.benchmarks.pages.report import html_report
from verification.benchmarks.pages.runtimes import RUNTIMES
from verification.benchmarks.pages.scoreboard import SCOREBOARD
from verification.benchmarks.pages.studies import Results

MEASURED: tuple[Page, ...] = (*QUALITY, FAMILIES_PAGE, COST, INFERENCE, SIZE, SPEED)
PAGES = (*MEASURED, PAPER_MODELS, GPU, MODELS, RUNTIMES, SCOREBOARD)
REPORT = "report.html"
# The sections of the report in their order: the first one is its summary.
SECTIONS = (
    "README",
    "claims",
    "quick",
    "headline",
    "sweep",
    "components",
    "settings",
    "calibration",
    "outliers",
    "patterns",
    "families",
    "refit",
    "cost",
    "inference",
    "size",
    "statistics",
)


def filled(text: str, results: Results) -> str:
    """A Markdown page with its tables and numbers filled in from the results."""
    tables = {name: table for page in PAGES for name, table in page.tables.items()}
    return fill(text, lambda name: tables[name](results), lambda query: number(results, query))


def published(root: Path) -> list[Path]:
    """The Markdown files of a checkout that have marks."""
    docs = root / "docs"
    return [
        root / "README.md",
        docs / "gpu.md",
        docs / "models.md",
        docs / "paper-models.md",
        docs / "runtimes.md",
        docs / "scoreboard.md",
        docs / "bugs-found.md",
        docs / "results" / "speed" / "speed.md",
        *sorted((docs / "study").glob("*.md")),
    ]


def publish(root: Path) -> None:
    """Fill all pages of a checkout, draw their pictures, and write the report."""
    results, study = Results(root / "docs" / "results"), root / "docs" / "study"
    for file in published(root):
        text = file.read_text(encoding="utf-8")
        _write(file, filled(text, results))
    for page in PAGES:
        page.draw(results, root / "docs" / "results" / "speed" if page is SPEED else study)
    _write(study / REPORT, html_report(sections(root)))


def sections(root: Path) -> dict[str, Path]:
    """The Markdown files of the report by the id of their section."""
    docs = root / "docs"
    return {
        **{name: docs / "study" / f"{name}.md" for name in SECTIONS},
        "speed": docs / "results" / "speed" / "speed.md",
        "paper-models": docs / "paper-models.md",
        "runtimes": docs / "runtimes.md",
    }


def write_fresh(results: Path, out: Path) -> list[Path]:
    """Write tables and pictures of fresh results, without prose, and a report of them.

    results  folder with a folder for each study that was measured

    Returns the files that were written; the report is the last one.
    """
    out.mkdir(parents=True, exist_ok=True)
    texts = {page.name: page.bare(Results(results), out) for page in MEASURED}
    files = {name: out / f"{name}.md" for name, text in texts.items() if text}
    for name, file in files.items():
        _write(file, texts[name])
    if not files:
        return []
    _write(out / REPORT, html_report(files))
    return [*files.values(), out / REPORT]


def _write(file: Path, text: str) -> None:
    with whole_file(file) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def main() -> None:
    """Rebuild what a checkout publishes: README, docs/study, and the pages with results in docs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(), help="folder of the checkout")
    publish(parser.parse_args().root)


if __name__ == "__main__":
    main()
