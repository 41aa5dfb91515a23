"""The page docs/paper-models.md, from the registry of the paper's models."""

from collections.abc import Sequence

from verification.benchmarks.pages.tables import markdown
from verification.benchmarks.quality.paper_models import MODELS, PaperEvidence, PaperModel
from verification.benchmarks.quality.paper_plan import (
    HEADINGS,
    Protocol,
    paper_models,
    plan_lines,
    plan_rows,
)


def page() -> str:
    """The page."""
    return f"""# Which models are those?

The labels in the paper's tables, with the model on the hub that each one means. Three labels mislead: **LLaMA-2-1.1B is TinyLlama's chat model**,
and **LLaMA-3-1B and LLaMA-3-3B are Llama 3.2**.

{_table(["label", "hub id", "parameters", "licence", "gated"], [_identity(model) for model in MODELS])}

How each one is known to belong to the paper, whose [published code](https://github.com/vectozavr/thanos) names hub ids and shortens them in its tables
to "LLama2-1.1B", "Llama-3-1B" and so on:

{_evidence()}

## What is odd about them

{_oddities()}
- All OPT: the main branch on the hub holds pickled weights and no safetensors, and `thanos` reads nothing else. Load such a model with Transformers once
  and `save_pretrained` it, tokenizer too, into a folder. (Read for opt-125m and opt-1.3b, inferred for the others.)
- All: the published code sets the window for perplexity to what the model can read (`max_position_embeddings`, *positions* below), and perplexities in
  windows of different lengths do not compare. Ours are 2048 tokens for every model.

## Sizes

{_table(["label", "layers", "hidden", "MLP", "heads", "for keys", "vocabulary", "positions", "tied", "read in"], [_sizes(model) for model in MODELS])}

From each model's config.json; *read in* names the public repository where it was read, a copy where the model's own is gated. A test builds every model
from these numbers, without weights, and counts exactly the parameters above.

## What repeating the paper takes

{_table(HEADINGS, plan_rows(Protocol(), paper_models()))}

{_list(plan_lines(Protocol()))}
- Rough: GPU memory for the whole model evaluated in 16 bits, or for pruning its largest layer if that is more, of one run at a time (`--jobs`);
  disk for the download and the dense model's Gram matrices, against which all runs are measured. Refits, which the paper does not have, are among the runs.
"""


def _identity(model: PaperModel) -> list[str]:
    gated = "yes" if model.gated else "no"
    return [model.label, f"`{model.hub_id}`", f"{model.parameters:,}", model.licence, gated]


def _sizes(model: PaperModel) -> list[str]:
    sizes = model.sizes
    numbers = (sizes.layers, sizes.hidden, sizes.intermediate, sizes.heads, sizes.kv_heads)
    text = (sizes.vocabulary, sizes.positions)
    tied = "yes" if sizes.tied else "no"
    return [model.label, *map(str, numbers + text), tied, f"`{model.config_read_in}`"]


def _evidence() -> str:
    lines = []
    for evidence in PaperEvidence:
        labels = [model.label for model in MODELS if model.evidence is evidence]
        lines.append(f"{', '.join(labels)}: {evidence.value}.")
    return _list(lines)


def _oddities() -> str:
    return _list([f"{model.label}: {model.oddity}" for model in MODELS if model.oddity])


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return markdown(headings, rows, left=len(headings))
