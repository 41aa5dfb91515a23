"""Links of the Markdown pages, and the site's navigation and API pages. No site is built."""

import importlib
import re
from functools import cache
from pathlib import Path

import pytest

from tests.test_docs import BLOCK, PAGES, ROOT

DOCS = ROOT / "docs"
API = DOCS / "api"
ALL_PAGES = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
COMMENT = re.compile(r"^<!--.*-->\n", re.MULTILINE)
CODE = re.compile(r"``.+?``|`[^`\n]+`|^ {4,}.*$", re.MULTILINE)
LINK = re.compile(r'(?:\]\(|\b(?:src|href)=")([^)"\s]+)')
ANCHOR = re.compile(r'<a id="([\w-]+)"></a>')
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
DOORS = ("reference", "thanos_torch", "thanos_torch.forms", "thanos_torch.models")
JUDGES = ("verification", "verification.conformance")


def prose(page: Path) -> str:
    return CODE.sub("", BLOCK.sub("", page.read_text()))


@cache
def anchors(page: Path) -> set[str]:
    """A page's own anchors, and those of its headings as code hosts and the site make them."""
    text = BLOCK.sub("", page.read_text())
    made = (re.sub(r"[^\w\- ]", "", each.lower()) for each in HEADING.findall(text))
    return {each.replace(" ", "-") for each in made} | set(ANCHOR.findall(text))


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_an_anchor(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        file, _, anchor = link.partition("#")
        if ":" in file:
            continue
        target = (page.parent / file).resolve() if file else page
        assert target.is_relative_to(ROOT), f"{link} leads out of the project"
        assert target.exists(), f"{link}: no such file"
        if anchor and target.parent != API:  # anchors of an API page appear when it is built
            assert anchor in anchors(target), f"{link}: no such anchor"


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_blank_line_is_above_every_list_and_table(page: Path) -> None:
    """The Markdown of the site demands it, unlike that of code hosts."""
    for paragraph in re.split(r"\n\s*\n", COMMENT.sub("\n", BLOCK.sub("", page.read_text()))):
        lines = paragraph.strip("\n").splitlines()
        for start in ("- ", "1. ", "| "):
            inside = [number for number, line in enumerate(lines) if line.startswith(start)]
            assert not inside or inside[0] == 0, lines[inside[0]]


def test_the_navigation_has_every_page() -> None:
    listed = re.findall(r"[\w./-]+\.md", (ROOT / "mkdocs.yml").read_text())
    outside = {"index.md", "contributing.md", "changelog.md"}
    in_docs = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert sorted(listed) == sorted(in_docs | outside)


@pytest.mark.parametrize("package", [*DOORS, *JUDGES])
def test_the_api_pages_have_every_public_name(package: str) -> None:
    page = API / f"{package.rpartition('.')[2]}.md"
    listed = re.findall(r"^::: [\w.]+\.(\w+)$", page.read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(importlib.import_module(package).__all__)
