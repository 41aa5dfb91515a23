"""All pages as one HTML file that needs nothing else: no network, no files beside it."""

import base64
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path

STYLE = """
:root { color-scheme: light dark; --line: #8884; --quiet: #8888; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; font: 1rem/1.5 system-ui, sans-serif; }
nav { border-bottom: 1px solid var(--line); padding-bottom: .5rem; }
nav a { display: inline-block; margin-right: 1rem; padding: .3rem 0; }
section { padding-top: 1rem; }
h1 { font-size: 1.5rem; line-height: 1.2; }
h2 { font-size: 1.2rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
tbody tr:hover { background: #8881; }
img { max-width: 100%; height: auto; background: white; border-radius: 4px; }
code { overflow-wrap: anywhere; }
footer { color: var(--quiet); border-top: 1px solid var(--line); margin-top: 2rem; }
"""


def html_report(texts: Mapping[str, str], pictures: Path) -> str:
    """One document.

    texts     Markdown of the pages, by name; the first line of each is its heading
    pictures  folder with the plots that they name
    """
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark").enable("table")
    titles = {name: text.splitlines()[0].lstrip("# ") for name, text in texts.items()}
    links = "\n".join(f'<a href="#{name}">{escape(title)}</a>' for name, title in titles.items())
    sections = "\n".join(
        f'<section id="{name}">\n{_self_contained(markdown.render(text), texts, pictures)}</section>'
        for name, text in texts.items()
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Thanos pruning: the benchmark</title>
<style>{STYLE}</style>
</head>
<body>
<nav>
{links}
</nav>
{sections}
<footer>Made from results files alone; each table names its command, commit and machine.</footer>
</body>
</html>
"""


def _self_contained(html: str, names: Mapping[str, str], pictures: Path) -> str:
    """Pictures inside, tables that scroll by themselves, links between pages within the file.

    Links to other documents have nowhere to go: their text stays.
    """

    def picture(found: re.Match[str]) -> str:
        data = base64.b64encode((pictures / found[1]).read_bytes()).decode()
        return f'src="data:image/png;base64,{data}"'

    def link(found: re.Match[str]) -> str:
        target, text = found[1], found[2]
        if target.startswith("https://"):
            return found[0]
        name = target.removesuffix(".md")
        return f'<a href="#{name}">{text}</a>' if name in names else text

    html = re.sub(r'src="([^":]+\.png)"', picture, html)
    html = re.sub(r'<a href="([^"]*)">(.*?)</a>', link, html, flags=re.DOTALL)
    return html.replace("<table>", '<div class="scroll"><table>').replace(
        "</table>", "</table></div>"
    )
