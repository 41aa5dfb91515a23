"""The report: all pages as one HTML file that needs no network and no other file."""

import base64
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path

SUMMARY = "README"  # the page that has the summary, if it is among the pages
STYLE = """
:root { color-scheme: light dark; --line: #8884; --quiet: #8888; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; font: 1rem/1.5 system-ui, sans-serif; }
nav { border-bottom: 1px solid var(--line); padding-bottom: .5rem; }
nav a { display: inline-block; margin-right: 1rem; padding: .3rem 0; }
section { padding-top: 1.5rem; }
h1 { font-size: 1.5rem; line-height: 1.2; }
h2 { font-size: 1.2rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .5rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td[style*="right"] { white-space: nowrap; }
tbody tr:hover { background: #8881; }
img { display: block; width: 44rem; max-width: 100%; background: white; border-radius: 4px; }
details { margin: .5rem 0; color: GrayText; overflow-wrap: anywhere; }
summary { cursor: pointer; }
code { overflow-wrap: anywhere; }
footer { color: var(--quiet); border-top: 1px solid var(--line); margin-top: 2rem; }
@media (max-width: 40rem) {
  table { font-size: .75rem; line-height: 1.3; }
  th, td { padding: .25rem .2rem; }
  td[style*="right"] { white-space: normal; }
}
"""


def html_report(pages: Mapping[str, Path]) -> str:
    """One HTML document.

    pages  Markdown files by the id of their section; the first line of each is its heading, and
           pictures lie beside the files
    """
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark").enable("table")
    texts = {name: file.read_text(encoding="utf-8") for name, file in pages.items()}
    titles = {name: text.splitlines()[0].lstrip("# ") for name, text in texts.items()}
    links = "\n".join(f'<a href="#{name}">{escape(title)}</a>' for name, title in titles.items())
    # The summary links to all pages itself.
    nav = "" if next(iter(pages)) == SUMMARY else f"<nav>\n{links}\n</nav>\n"
    sections = "\n".join(
        f'<section id="{name}">\n{_self_contained(markdown.render(text), pages, pages[name])}</section>'
        for name, text in texts.items()
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Thanos pruning: the study</title>
<style>{STYLE}</style>
</head>
<body>
{nav}{sections}
<footer>Tables and pictures are made from the results files alone.</footer>
</body>
</html>
"""


def _self_contained(html: str, pages: Mapping[str, Path], page: Path) -> str:
    """Embed pictures, let wide tables scroll, and keep links between the pages within the file.

    Links to other documents have nowhere to go: their text stays.
    """
    sections = {file.resolve(): name for name, file in pages.items()}

    def picture(found: re.Match[str]) -> str:
        data = base64.b64encode((page.parent / found[1]).read_bytes()).decode()
        return f'src="data:image/png;base64,{data}"'

    def link(found: re.Match[str]) -> str:
        target, text = found[1], found[2]
        if target.startswith("https://"):
            return found[0]
        name = sections.get((page.parent / target.partition("#")[0]).resolve())
        return f'<a href="#{name}">{text}</a>' if name else text

    html = re.sub(r"<!--.*?-->", "", html, flags=re.DOTALL)
    html = re.sub(r'src="([^":]+\.png)"', picture, html)
    html = re.sub(r'<a href="([^"]*)">(.*?)</a>', link, html, flags=re.DOTALL)
    return html.replace("<table>", '<div class="scroll"><table>').replace(
        "</table>", "</table></div>"
    )
