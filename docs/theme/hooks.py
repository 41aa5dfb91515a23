"""Hooks of the site's build: pages of repository files that docs/ links to, and mathematics."""

import html
import posixpath
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, InclusionLevel

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# Pages of the site that are written elsewhere than in docs/.
OUTSIDE = {
    "index.md": ROOT / "README.md",
    "contributing.md": ROOT / "CONTRIBUTING.md",
    "changelog.md": ROOT / "CHANGELOG.md",
}
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")
COMMENT = re.compile(r"^<!--.*-->$", re.MULTILINE)
LANGUAGES = {".py": "python", ".toml": "toml", ".c": "c", ".h": "c", ".cff": "yaml"}
FORMULA = re.compile(r'<(span|div) class="arithmatex">\s*\\[(\[](.*?)\\[)\]]\s*</\1>', re.DOTALL)
TAG = re.compile(r"\\tag\{(.*?)\}")
LEFT_BAR = re.compile(r"(?<!\\left)(?:\\bigl)?(\\l[Vv]ert)(?![a-z])")
RIGHT_BAR = re.compile(r"(?<!\\right)(?:\\bigr)?(\\r[Vv]ert)(?![a-z])")
BAR = re.compile(r'<mo stretchy="true"([^>]*>&#x(?:02016|0007C);)')
OPERATOR = re.compile(r"<mo>([a-z]{2,})</mo>(?!<mo[^>]*>&#x00028;)")


def on_files(files: Any, config: Any) -> None:
    """Add the pages that are written elsewhere, and a page for each source file with a link."""
    for uri, path in OUTSIDE.items():
        text = "---\nhide: [navigation]\n---\n\n" if uri == "index.md" else ""
        files.append(File.generated(config, uri, content=text + path.read_text()))
    for page in list(files.documentation_pages()):
        for link in LINK.findall(page.content_string):
            path = _target(page.src_uri, link)
            uri = _uri(path)
            if path.exists() and files.get_file_from_path(uri) is None:
                shown = File.generated(
                    config, uri, content=_source(path), inclusion=InclusionLevel.NOT_IN_NAV
                )
                files.append(shown)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turn links into links within the site, and admit Markdown inside and beside HTML."""
    here = page.file.src_uri

    def moved(link: re.Match[str]) -> str:
        uri = _uri(_target(here, link[1]))
        known = files.get_file_from_path(uri) is not None
        return posixpath.relpath(uri, posixpath.dirname(here)) if known else link[1]

    apart = COMMENT.sub(r"\n\g<0>\n", LINK.sub(moved, markdown))
    return apart.replace("<details>", '<details markdown="1">')


def on_page_content(content: str, page: Any, config: Any, files: Any) -> str:
    """Turn LaTeX into MathML, which browsers show without scripts or fonts."""
    return FORMULA.sub(lambda formula: _mathml(formula, page.file.src_uri), content)


def _mathml(formula: re.Match[str], page: str) -> str:
    latex = html.unescape(formula[2])
    if formula[1] == "span":
        return _converted(latex, "inline", page)
    number = TAG.search(latex)
    latex = TAG.sub("", latex)
    # A long line breaks between the statements of a formula, which \quad separates.
    parts = [latex] if r"\begin" in latex else re.split(r"\\q?quad", latex)
    statements = "".join(_converted(part, "block", page) for part in parts)
    tag = f'<span class="number">({number[1]})</span>' if number else ""
    return f'<div class="formula"><div>{statements}</div>{tag}</div>'


def _converted(latex: str, display: str, page: str) -> str:
    # What \left and \right enclose is one group: bars do not become infix operators, and the
    # brackets of a matrix are no higher than the matrix.
    grouped = LEFT_BAR.sub(r"\\left\1", RIGHT_BAR.sub(r"\\right\1", latex)).strip()
    grouped = grouped.replace(r"\begin{pmatrix}", r"\left(\begin{matrix}")
    grouped = grouped.replace(r"\end{pmatrix}", r"\end{matrix}\right)")
    mathml = convert(grouped, display=display)
    if "\\" in mathml:
        raise PluginError(f"{page}: the site cannot show all of the formula {latex}")
    mathml = BAR.sub(r'<mo stretchy="false"\1', mathml)
    # The names of functions get spaces of their own, as in TeX.
    mathml = OPERATOR.sub(r'<mo lspace="0" rspace="0.17em">\1</mo>', mathml)
    return re.sub(r"<mo>([a-z]{2,})</mo>", r'<mo lspace="0" rspace="0">\1</mo>', mathml)


def _target(page: str, link: str) -> Path:
    """The file that a link in a page leads to."""
    source = OUTSIDE.get(page, DOCS / page)
    return Path(posixpath.normpath(source.parent / link))


def _uri(path: Path) -> str:
    """The place of a file in the site."""
    for uri, outside in OUTSIDE.items():
        if path == outside:
            return uri
    if path.is_relative_to(DOCS) and path.suffix not in LANGUAGES and not path.is_dir():
        return path.relative_to(DOCS).as_posix()
    inside = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    return f"source/{inside.as_posix()}.md"


def _source(path: Path) -> str:
    """A page that shows a file, or lists a folder."""
    name = path.relative_to(ROOT).as_posix()
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        body = "\n".join(f"- `{file.relative_to(path).as_posix()}`" for file in files)
    else:
        body = f"`````{LANGUAGES.get(path.suffix, 'text')}\n{path.read_text()}`````"
    return f"---\nsearch:\n  exclude: true\n---\n\n# {name}\n\n{body}\n"
