"""The tables of `thanos prune`: what a run did, or with --dry-run what it would do."""

from pathlib import Path
from typing import Any

from thanos_torch.checkpoint.converted import read_dtype
from thanos_torch.checkpoint.record import (
    FAILED,
    NOT_DECIDABLE,
    PASSED,
    counted,
    reasons,
    recorded,
    together,
    worst,
)
from thanos_torch.cli.display import OF_VERDICT, ExitStatus, grouped, kind_of, say, table
from thanos_torch.models import LayerOptions, Rules
from thanos_torch.pruning.checkpoint import refuse_activations
from thanos_torch.pruning.dry_run import (
    PlannedLayer,
    measure_speed,
    memory_parts,
    meta_model,
    planned_run,
    time_parts,
    written_bytes,
)
from thanos_torch.pruning.plan import kinds_of_others
from thanos_torch.text.windows import check_size

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
    for reason, names in kinds_of_others(record["others"]).items():
        say(f"{reason} stay dense: {_first(names)}.")
    loss = worst((layer["certificate"] for layer in record["layers"]), "loss")
    if loss is not None:
        say(f"Worst loss of a layer, over the exact algorithm's with the same masks: {loss:.6g}.")
    seconds = (f"{stage} {spent:.1f}" for stage, spent in record["seconds"].items())
    say(f"Seconds: {', '.join(seconds)}. Written to {out}.")
    say(
        f"Removed {record['block_sparsity']:.2%} of all weights in the decoder blocks, "
        f"{record['sparsity']:.2%} of those in pruned layers, {_verdict(record)}."
        f"{_less_than_asked(record)}"
    )


def exit_status(record: dict[str, Any], allow_partial: bool) -> ExitStatus:
    """The exit status of a run, by its record.

    allow_partial  do not mind what was left alone though nobody asked for that
    """
    pruned = [recorded(layer) for layer in record["layers"] if not layer["left_dense"]]
    alone = [layer for layer in record["layers"] if _left_dense_unasked(layer)]
    verdict = together(pruned) if alone else recorded(record)
    if verdict == FAILED:
        return ExitStatus.FAILED
    if record["less_than_asked"] and not allow_partial:
        return ExitStatus.LESS_THAN_ASKED
    if alone and not (allow_partial and pruned):
        return ExitStatus.FAILED
    return OF_VERDICT[verdict]


def _left_dense_unasked(layer: dict[str, Any]) -> bool:
    return bool(layer["left_dense"]) and not layer["asked_dense"]


def _less_than_asked(record: dict[str, Any]) -> str:
    """A sentence on what was left alone unasked, the largest first; empty if that is little."""
    if not record["less_than_asked"]:
        return ""
    names = sorted(record["left_alone"], key=lambda name: -record["left_alone"][name])
    return (
        f" LESS THAN ASKED: {record['left_alone_share']:.2%} of the blocks' weights are left alone "
        f"though nobody excluded them ({_first(names)}); --allow-partial accepts that."
    )


def _first(names: list[str]) -> str:
    return ", ".join([*names[:3], *(["..."] if len(names) > 3 else [])])


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
    asked = [layer for layer in record["layers"] if not layer["asked_dense"]]
    alone = sum(map(_left_dense_unasked, asked))
    if verdict == PASSED:
        return "every layer certified"
    if verdict == FAILED and not alone:
        return "NOT verified"
    return f"NOT verified: {''.join(counted(asked))}{f', {alone} left dense' if alone else ''}"


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
    device: str,
    *,
    dtype: str,
    trust_remote_code: bool,
    allow_partial: bool,
) -> ExitStatus:
    """Print what a run would prune and take. Only the model's configuration is loaded.

    Returns LESS_THAN_ASKED if that is how the run would end, though tokens reach every layer;
    else DONE. Raises ValueError for arguments that the run itself would refuse.
    """
    check_size(nsamples, seqlen)
    refuse_activations(activations)
    written = read_dtype(dtype)
    built = meta_model(model, trust_remote_code=trust_remote_code, written=written)
    layers, report = planned_run(built, rules, seqlen)
    tokens = nsamples * seqlen
    memory = memory_parts(
        built, layers, tokens, held_activations=activations == "memory", device=device
    )
    seconds = time_parts(layers, tokens, seqlen, measure_speed())
    table(f"Dry run, {asked}: {model}", PLAN_HEADINGS, _plan_rows(layers))
    parts = ", ".join(f"{name} {size / 2**20:.0f}" for name, size in memory.items())
    say(f"Memory, ESTIMATED: {sum(memory.values()) / 2**20:.0f} MiB ({parts}).")
    size = written_bytes(built, written)
    say(f"Weights to write: {size:,} bytes; the disk needs that twice while files are joined.")
    parts = ", ".join(f"{stage} {spent:.1f}" for stage, spent in seconds.items())
    say(
        f"Time, ESTIMATED from this machine's speed just now: {sum(seconds.values()):.0f} s "
        f"({parts}), on the CPU, without loading and saving."
    )
    say("Estimates may be off by a factor of two. Nothing was loaded, nothing was written.")
    removed = sum(layer.removed for layer in layers)
    say(
        f"{removed} of {report.block_weights} weights in the decoder blocks "
        f"({report.block_sparsity:.2%}) would be removed, {report.sparsity:.2%} of those in pruned "
        f"layers.{_less_than_asked(report.as_dict())}"
    )
    partial = report.less_than_asked and not allow_partial
    return ExitStatus.LESS_THAN_ASKED if partial else ExitStatus.DONE


def _plan_rows(layers: list[PlannedLayer]) -> list[list[str]]:
    """Rows of the table with PLAN_HEADINGS, one per kind of layer."""
    rows = []
    for (kind, asked), group in grouped(layers, _kind_and_choice).items():
        weights = sum(layer.weights for layer in group)
        gone = sum(layer.removed for layer in group)
        cells = [str(weights), str(gone), f"{gone / weights:.2%}"]
        rows.append([kind, str(len(group)), asked, *cells])
    return rows


def _kind_and_choice(layer: PlannedLayer) -> tuple[str, str]:
    choice = layer.choice
    asked = choice.described() if isinstance(choice, LayerOptions) else "dense"
    return kind_of(layer.name, layer.shape), asked
