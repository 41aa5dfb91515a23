"""The page of `--paper`: the paper's own models, as far as they were measured."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from verification.benchmarks.pages import zero_shot
from verification.benchmarks.pages.changes import answer, by_pattern, change_table, meaning
from verification.benchmarks.pages.page import Page, Sources
from verification.benchmarks.pages.pairs import Record
from verification.benchmarks.pages.patterns import against_base, picture
from verification.benchmarks.pages.tables import lines, markdown, protocol, source, verdict
from verification.benchmarks.quality.paper_plan import Protocol
from verification.benchmarks.quality.profiles import paper_studies

QUESTION = "Who is better on the paper's models?"


def text(sources: Sources) -> str:
    """For every model and pattern an answer and tables; a plot a model."""
    missing = [name for name in paper_studies() if name not in sources]
    extent = f"Not measured yet: {', '.join(missing)}.\n\n" if missing else ""
    return f"# {QUESTION}\n\n{extent}" + "\n".join(
        _of_model(name, _named_by_method(results)) for name, results in sources.items()
    )


def _named_by_method(results: dict[str, Any]) -> dict[str, Any]:
    """Block sizes are the methods' own here, not settings: without them in the runs' names."""
    runs = [
        {
            **record,
            "run": {key: value for key, value in record["run"].items() if key != "block_size"},
        }
        for record in results["runs"]
    ]
    return {**results, "runs": runs}


def _of_model(name: str, results: dict[str, Any]) -> str:
    dense = next(record for record in results["runs"] if "layers" not in record)
    return f"""## {name}

`{dense["model"]}`, whose perplexity is {dense["perplexity"]:.2f} before pruning. The first rows are SparseGPT.

{lines(_of_patterns(results, dense))}
![Perplexity against SparseGPT's]({_picture(name)})

{meaning(results)}
- Blocks of {Protocol().block_size} columns, {Protocol().sparsegpt_block_size} for SparseGPT, as in the paper.
- Zero-shot accuracy is in %. {zero_shot.asked(results["runs"])} ± is one standard error over the items.

{protocol(results)} {verdict(results)}

{source(results)}
"""


def _of_patterns(results: dict[str, Any], dense: Record) -> Iterator[str]:
    records = by_pattern(results["runs"])
    for pattern, found in against_base(results).items():
        accuracies = [dense, *records[pattern]]
        yield (
            f"### {pattern}\n\n{answer(found)}\n{zero_shot.ranks(accuracies)}\n\n"
            f"{markdown(*change_table(found))}\n\n{zero_shot.table(accuracies)}\n"
        )


def _picture(name: str) -> str:
    return f"paper-{name.replace(' ', '-')}.png"


def draw(sources: Sources, folder: Path) -> None:
    """Write a picture a model."""
    for name, results in sources.items():
        picture(against_base(_named_by_method(results)), folder / _picture(name))


PAPER = Page("paper", QUESTION, tuple(paper_studies()), text, draw, whole=False)
