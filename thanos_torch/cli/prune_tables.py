"""The tables of `thanos prune`: what a run did, or with --dry-run what it would do."""

from pathlib import Path
from typing import Any

from thanos_torch.checkpoint.record import NOT_DECIDABLE, PASSED, counted, reasons, recorded, worst
from thanos_torch.cli.display import grouped, kind_of, say, table
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

RECORD_HEADINGS = ["layers", "number", "removed", "mean error", "seconds", "certified"]
PLAN_HEADINGS = ["layers", "number", "asked for", "weights", "removed", "sparsity"]


def show_record(record: dict[str, Any], asked: str, out: Path) -> None:
    """Print a table with one row per kind of layer, the layers left dense, and the verdict."""
    kinds = grouped(record["layers"], _kind)
    title = f"{asked}: {record.get('model', {}).get('origin', out)}"
    table(title, RECORD_HEADINGS, [_record_row(kind, layers) for kind, layers in kinds.items()])
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


def _kind(layer: dict[str, Any]) -> str:
    pattern = layer["options"].get("pattern", "dense")
    return f"{kind_of(layer['name'], layer['shape'])}, {pattern}"


def _record_row(kind: str, layers: list[dict[str, Any]]) -> list[str]:
    """A row of the table with RECORD_HEADINGS."""
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
    """Why a pruned layer is not verified."""
    certificate = layer["certificate"]
    if certificate is None:
        return "nobody judged it"
    if not layer["stored_exactly"]:
        return "the model does not hold the certified weights"
    return f"its certificate failed at {reasons(certificate)}"


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
    """Print what a run would prune and take. Only the model's configuration is loaded.

    Raises ValueError for arguments that the run itself would refuse.
    """
    at_least_one("nsamples", nsamples)
    at_least_one("seqlen", seqlen)
    refuse_activations(activations)
    built = meta_model(model, trust_remote_code=trust_remote_code)
    layers = planned_layers(built, rules)
    tokens = nsamples * seqlen
    memory = memory_parts(built, layers, tokens, held_activations=activations == "memory")
    seconds = time_parts(layers, tokens, seqlen, measure_speed())
    table(f"Dry run, {asked}: {model}", PLAN_HEADINGS, _plan_rows(layers))
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


def _plan_rows(layers: list[PlannedLayer]) -> list[list[str]]:
    """Rows of the table with PLAN_HEADINGS, one per kind of layer."""
    rows = []
    for (kind, asked), group in grouped(layers, _kind_and_choice).items():
        weights = sum(_weights(layer) for layer in group)
        gone = sum(layer.removed for layer in group)
        cells = [str(weights), str(gone), f"{gone / weights:.2%}"]
        rows.append([kind, str(len(group)), asked, *cells])
    return rows


def _kind_and_choice(layer: PlannedLayer) -> tuple[str, str]:
    choice = layer.choice
    asked = choice.described() if isinstance(choice, LayerOptions) else "dense"
    return kind_of(layer.name, layer.shape), asked


def _weights(layer: PlannedLayer) -> int:
    return layer.shape[0] * layer.shape[1]
