"""Tables of `thanos prune`: what a run did, and with --dry-run what it would do."""

from collections import defaultdict
from pathlib import Path
from typing import Any

from thanos_torch.checkpoint.record import NOT_DECIDABLE, PASSED, counted, reasons, recorded, worst
from thanos_torch.cli.display import say, table
from thanos_torch.models import LayerOptions, Rules
from thanos_torch.pruning.checkpoint import refuse_activations
from thanos_torch.pruning.dry_run import (
    PlannedLayer,
    measure_speed,
    memory_parts,
    meta_model,
    planned_layers,
    time_parts,
)
from thanos_torch.text.windows import at_least_one

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


PLAN_HEADINGS = ["layers", "number", "asked for", "weights", "removed", "sparsity"]


def show_plan(
    model: str,
    rules: Rules,
    asked: str,
    nsamples: int,
    seqlen: int,
    activations: str,
    *,
    trust_remote_code: bool,
) -> None:
    """Print it; nothing is loaded but the model's configuration, and nothing written.

    Raises ValueError for what the run itself would refuse.
    """
    at_least_one("nsamples", nsamples)
    at_least_one("seqlen", seqlen)
    refuse_activations(activations)
    built = meta_model(model, trust_remote_code=trust_remote_code)
    layers = planned_layers(built, rules)
    tokens = nsamples * seqlen
    memory = memory_parts(built, layers, tokens, held_activations=activations == "memory")
    seconds = time_parts(layers, tokens, seqlen, measure_speed())
    table(f"Dry run, {asked}: {model}", PLAN_HEADINGS, _rows(layers))
    weights = sum(_weights(layer) for layer in layers)
    removed = sum(layer.removed for layer in layers)
    say(f"{removed} of {weights} weights ({removed / weights:.2%}) would be removed.")
    parts = ", ".join(f"{name} {size / 2**20:.0f}" for name, size in memory.items())
    say(f"Memory, ESTIMATED: {sum(memory.values()) / 2**20:.0f} MiB ({parts}).")
    parts = ", ".join(f"{stage} {spent:.1f}" for stage, spent in seconds.items())
    say(
        f"Time, ESTIMATED from this machine's speed just now: {sum(seconds.values()):.0f} s "
        f"({parts}), on the CPU, without loading and saving."
    )
    say("Estimates may be off by a factor of two. Nothing was loaded, nothing was written.")


def _rows(layers: list[PlannedLayer]) -> list[list[str]]:
    """One line for each kind of layer, as in PLAN_HEADINGS."""
    kinds: dict[tuple[str, str], list[PlannedLayer]] = defaultdict(list)
    for layer in layers:
        choice = layer.choice
        asked = choice.described() if isinstance(choice, LayerOptions) else "dense"
        shape = f"{layer.shape[0]} x {layer.shape[1]}"
        kinds[f"{layer.name.rpartition('.')[2]} {shape}", asked].append(layer)
    rows = []
    for (kind, asked), group in kinds.items():
        weights = sum(_weights(layer) for layer in group)
        gone = sum(layer.removed for layer in group)
        cells = [str(weights), str(gone), f"{gone / weights:.2%}"]
        rows.append([kind, str(len(group)), asked, *cells])
    return rows


def _weights(layer: PlannedLayer) -> int:
    return layer.shape[0] * layer.shape[1]
