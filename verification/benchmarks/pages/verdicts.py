"""The list of verdicts that the pages rest on, and its check against the results.

docs/study/verdicts.toml lists by page, in lines such as "thanos 2:4: lower than sparsegpt in
headline", which run beats which. If a result changes a verdict, a person rewrites the page.
"""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from verification.benchmarks.pages.quality import OTHERS
from verification.benchmarks.pages.studies import Results
from verification.benchmarks.pages.zero_shot import telling
from verification.benchmarks.statistics import Estimate, difference, gain, in_words

BEST = "the best other method"
LINE = re.compile(
    r"(?P<run>.+): (?P<measure>perplexity|accuracy) (?P<verdict>lower|higher|not shown to differ) "
    r"(?:than|from) (?P<base>.+?)(?P<ruined>, ruined)?, in (?P<study>[\w-]+)"
)


@dataclass(frozen=True)
class Expected:
    """A verdict that a page relies on.

    page    the page that says so
    line    the line of the list
    found   the verdict of the results, in words; the line is wrong if it does not say so
    holds   whether the line agrees with the results
    """

    page: str
    line: str
    found: str
    holds: bool


def check(listed: Path, results: Results) -> Iterator[Expected]:
    """Compare every line of the list with the results. Raises ValueError for a line it cannot read."""
    for page, lines in tomllib.loads(listed.read_text(encoding="utf-8")).items():
        for line in lines:
            parts = LINE.fullmatch(line)
            if not parts:
                raise ValueError(
                    f"a verdict of {page!r} must be as in {LINE.pattern}, got {line!r}"
                )
            yield _checked(page, line, parts, results)


def _checked(page: str, line: str, parts: re.Match[str], results: Results) -> Expected:
    study, run = results.study(parts["study"]), parts["run"]
    pattern = run.rpartition(" ")[2]
    base = study.best(run, OTHERS) if parts["base"] == BEST else f"{parts['base']} {pattern}"
    change = study.compare(run, base)
    if parts["measure"] == "accuracy":
        points: Estimate = change.accuracy(telling(study))
        found = in_words(gain(points))
    else:
        found = in_words(difference(change.perplexity))
    usable = "" if change.usable else ", ruined"
    holds = found == parts["verdict"] and usable == (parts["ruined"] or "")
    return Expected(page, line, found + usable, holds)
