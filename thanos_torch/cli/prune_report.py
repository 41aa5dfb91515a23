"""What `thanos prune` shows of a run, from what `thanos.json` holds."""

from collections import defaultdict
from pathlib import Path
from typing import Any

from thanos_torch.cli.display import say, table
from thanos_torch.models.verdicts import NOT_DECIDABLE, PASSED, counted, reasons, recorded, worst

HEADINGS = ["layers", "number", "removed", "mean error", "seconds", "certified"]


def show_record(record: dict[str, Any], asked: str, out: Path) -> None:
    """A table with one line for each kind of layer, what was left, and the verdict."""
    kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for layer in record["layers"]:
        kind = layer["name"].rpartition(".")[2]
        pattern = layer["options"].get("pattern", "dense")
        kinds[f"{kind} {layer['shape'][0]} x {layer['shape'][1]}, {pattern}"].append(layer)
    title = f"{asked}: {record['model']['origin']}"
    table(title, HEADINGS, [_row(kind, layers) for kind, layers in kinds.items()])
    for layer in record["layers"]:
        if layer["asked_dense"]:
            continue
        if layer["left_dense"]:
            say(f"{layer['name']} was left dense: {layer['left_dense']}.")
        elif recorded(layer) == NOT_DECIDABLE:
            say(f"{layer['name']} is {NOT_DECIDABLE}: {reasons(layer['certificate'])}.")
        elif not layer["verified"]:
            say(f"{layer['name']} is NOT verified: {_reason(layer)}.")
    if record["others"]:
        names = ", ".join(record["others"][:3]) + (", ..." if len(record["others"]) > 3 else "")
        say(f"Left alone, as no linear layers or as routers: {names}")
    say(f"{record['sparsity']:.2%} of their weights removed, {_verdict(record)}.")
    loss = worst((layer["certificate"] for layer in record["layers"]), "loss")
    if loss is not None:
        say(f"Worst loss of a layer, over the exact algorithm's with the same masks: {loss:.6g}.")
    seconds = (f"{stage} {spent:.1f}" for stage, spent in record["seconds"].items())
    say(f"Seconds: {', '.join(seconds)}. Written to {out}.")


def _row(kind: str, layers: list[dict[str, Any]]) -> list[str]:
    """One line of the table, as in HEADINGS."""
    weights = sum(layer["shape"][0] * layer["shape"][1] for layer in layers)
    errors = [layer["relative_error"] for layer in layers if not layer["left_dense"]]
    return [
        kind,
        str(len(layers)),
        f"{sum(layer['removed'] for layer in layers) / weights:.2%}",
        f"{sum(errors) / len(errors):.4f}" if errors else "",
        f"{sum(layer['seconds'] for layer in layers):.1f}",
        "as asked" if all(layer["asked_dense"] for layer in layers) else "".join(counted(layers)),
    ]


def _verdict(record: dict[str, Any]) -> str:
    verdict = recorded(record)
    if verdict != NOT_DECIDABLE:
        return "every layer certified" if verdict == PASSED else "NOT verified"
    pruned = [layer for layer in record["layers"] if not layer["asked_dense"]]
    return f"NOT verified: {''.join(counted(pruned))}"


def _reason(layer: dict[str, Any]) -> str:
    """Why a pruned layer does not count as verified."""
    certificate = layer["certificate"]
    if certificate is None:
        return "nobody judged it"
    if not layer["stored_exactly"]:
        return "the model does not hold the certified weights"
    return f"its certificate failed at {reasons(certificate)}"
