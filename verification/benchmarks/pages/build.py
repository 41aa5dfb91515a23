"""Builds every page whose results are there: `python -m verification.benchmarks.pages.build`."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from thanos_torch.runtime.files import whole_file
from verification.benchmarks.pages.ablations import CALIBRATION, COMPONENTS, SETTINGS
from verification.benchmarks.pages.claims import CLAIMS_PAGE
from verification.benchmarks.pages.commands import COST, INFERENCE, SIZE
from verification.benchmarks.pages.headline import HEADLINE
from verification.benchmarks.pages.html import html_report
from verification.benchmarks.pages.outliers import OUTLIERS
from verification.benchmarks.pages.page import Page, Sources
from verification.benchmarks.pages.paper import PAPER
from verification.benchmarks.pages.paper_models import page as models_page
from verification.benchmarks.pages.patterns import PATTERNS
from verification.benchmarks.pages.quick import QUICK
from verification.benchmarks.pages.readme import with_table
from verification.benchmarks.pages.refit import REFIT
from verification.benchmarks.pages.sweep import SWEEP
from verification.benchmarks.results import RESULTS, read_content

PAGES: tuple[Page, ...] = (
    QUICK,
    SWEEP,
    COMPONENTS,
    SETTINGS,
    CALIBRATION,
    OUTLIERS,
    PATTERNS,
    HEADLINE,
    COST,
    INFERENCE,
    SIZE,
    PAPER,
)
# Drawn from many studies: of one alone it would say little.
PUBLISHED = (CLAIMS_PAGE, REFIT, *PAGES)
REPORT = "report.html"


def publish(results: Path, out: Path) -> list[Page]:
    """Write all pages; the HTML file also has the paper's models, whose page is made from a registry."""
    return build(results, out, PUBLISHED, {"paper-models": models_page()})


def build(
    results: Path,
    out: Path,
    pages: Sequence[Page] = PAGES,
    others: Mapping[str, str] | None = None,
) -> list[Page]:
    """Write pages, their plots, and all of them as one self-contained HTML file.

    results  holds a folder with results.json for each study that was measured
    others   Markdown of further pages by name, without pictures, for the HTML file alone

    Returns the pages that were built; those whose results are missing are left out. Raises
    ValueError, naming it, for a results file that cannot be read.
    """
    out.mkdir(parents=True, exist_ok=True)
    built: list[Page] = []
    texts: dict[str, str] = {}
    for page in pages:
        sources = _read(results, page)
        if sources:
            text = page.text(sources)
            page.draw(sources, out)
            with whole_file(out / f"{page.name}.md") as unfinished:
                unfinished.write_text(text, encoding="utf-8")
            built.append(page)
            texts[page.name] = text
    with whole_file(out / REPORT) as unfinished:
        unfinished.write_text(html_report({**texts, **(others or {})}, out), encoding="utf-8")
    return built


def _read(results: Path, page: Page) -> Sources | None:
    """The results files of a page; None if one that it needs was not measured yet."""
    sources: Sources = {}
    for name in page.sources:
        # A command of its own names its file after itself.
        files = (results / name / RESULTS, results / name / f"{name}.json")
        file = next((each for each in files if each.is_file()), None)
        if file is None:
            if page.whole:
                return None
            continue
        sources[name] = read_content(file)
    return sources or None


def main() -> None:
    """Rebuild what is published: docs/study, docs/paper-models.md, and the table of the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(), help="of the checkout")
    root = parser.parse_args().root
    for page in publish(root / "docs" / "results", root / "docs" / "study"):
        print(root / "docs" / "study" / f"{page.name}.md")
    with whole_file(root / "docs" / "paper-models.md") as unfinished:
        unfinished.write_text(models_page(), encoding="utf-8")
    quick = _read(root / "docs" / "results", QUICK)
    if quick:
        readme = root / "README.md"
        text = with_table(readme.read_text(encoding="utf-8"), quick["quick"])
        with whole_file(readme) as unfinished:
            unfinished.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
