"""How the small models were trained: a section of the page on model families."""

from typing import Any

from verification.benchmarks.pages.tables import markdown

HEADINGS = ["model", "class", "parameters", "steps", "epochs", "ended by", "loss at the end", "minutes", "perplexity", "of a unigram model",
            "times the unigram's"]  # fmt: skip
ENDS = {"steps": "all steps done", "minutes": "time limit"}


def training_section(results: dict[str, Any]) -> str:
    """Texts, how training went and ended, and why its perplexity is not that of the runs."""
    first = next(iter(results["trainings"].values()))
    schedule, held_out = first["asked"]["schedule"], first["held_out"]
    texts = ", ".join(
        f"`{each['file']}` of {each['characters']:,} characters" for each in first["asked"]["data"]
    )
    dense = next(record for record in results["runs"] if "layers" not in record)
    return f"""Trained on {texts}, {first["text"]["tokens"]:,} tokens: windows of {schedule["seqlen"]} at random places, {schedule["batch"]} a step,
with a learning rate that warms up and then decays. Training ends after {schedule["steps"]:,} steps, or at a limit of {schedule["minutes"]:.0f} minutes:
it was not carried on until the loss stopped falling.

{markdown(HEADINGS, _rows(results), left=2)}

*Loss at the end*: in nats a token of the training text, the mean of the last steps. *Perplexity*: of the dense model right after training, on
{held_out["windows"]} windows of WikiText-2; the dense row above is the same model on {len(dense["window_losses"])} windows. Other windows, so
another number. *Of a unigram model*: one that knows only how often each token occurs."""


def _rows(results: dict[str, Any]) -> list[list[str]]:
    return [
        [
            name,
            f"`{record['architecture']}`",
            f"{record['parameters']:,}",
            f"{record['steps']:,}",
            f"{record['epochs']:.2f}",
            ENDS.get(record["stopped_by"], record["stopped_by"]),
            f"{record['curve'][-1][1]:.2f}",
            f"{record['seconds'] / 60:.1f}",
            f"{record['perplexity']:.1f}",
            f"{record['unigram_perplexity']:.1f}",
            f"{record['ratio']:.3f}",
        ]
        for name, record in results["trainings"].items()
    ]
