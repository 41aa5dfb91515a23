"""The page on the paper's models: identities, sizes, and what repeating the paper takes."""

from collections.abc import Callable, Sequence

from verification.benchmarks.pages.page import Page
from verification.benchmarks.pages.studies import Results
from verification.benchmarks.pages.tables import markdown
from verification.benchmarks.quality.paper_models import MODELS, PaperModel
from verification.benchmarks.quality.paper_plan import HEADINGS, Protocol, paper_models, plan_rows

IDENTITY = ["label", "model on the hub", "licence", "named in", "gated", "parameters"]
SIZES = ["label", "read in", "blocks", "hidden", "MLP", "heads", "key heads", "vocabulary", "context", "tied"]  # fmt: skip


def _identity(model: PaperModel) -> list[str]:
    return [
        model.label,
        f"`{model.hub_id}`",
        model.licence,
        model.evidence.value,
        _yes(model.gated),
        f"{model.parameters:,}",
    ]


def _sizes(model: PaperModel) -> list[str]:
    numbers = (model.layers, model.hidden, model.intermediate, *model.heads)
    text = (model.config["vocab_size"], model.config["max_position_embeddings"])
    tied = _yes(bool(model.config["tie_word_embeddings"]))
    return [model.label, f"`{model.config_read_in}`", *map(str, numbers + text), tied]


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def _table(
    headings: Sequence[str], row: Callable[[PaperModel], list[str]], left: int
) -> Callable[[Results], str]:
    return lambda results: markdown(headings, map(row, MODELS), left)


def _plan(results: Results) -> str:
    return markdown(HEADINGS, plan_rows(Protocol(), paper_models()), left=2)


PAPER_MODELS = Page(
    "paper-models",
    "Which models do the paper's labels mean?",
    {
        "paper-models": _table(IDENTITY, _identity, left=4),
        "paper-models sizes": _table(SIZES, _sizes, left=2),
        "paper-models plan": _plan,
    },
)
