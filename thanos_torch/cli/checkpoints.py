"""`thanos inspect`, `thanos pack`, `thanos unpack` and `thanos reapply`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from thanos_torch.checkpoint.packed_format import plus
from thanos_torch.checkpoint.record import (
    FAILED,
    NOT_DECIDABLE,
    PASSED,
    counted,
    described_files,
    reasons,
    recorded,
    together,
)
from thanos_torch.cli.display import (
    OF_VERDICT,
    grouped,
    kind_of,
    say,
    say_first,
    table,
    write_result,
)
from thanos_torch.cli.options import check_writable
from thanos_torch.cli.progress import progress_bar
from thanos_torch.models import (
    MASKS,
    RECORD,
    PackedSizes,
    SeenLayer,
    changed_files,
    inspect_folder,
    pack_checkpoint,
    read_record,
    reapply_checkpoint,
    unpack_checkpoint,
)

HEADINGS = ["matrices", "number", "zeros", "pattern seen", "zeros lost"]


def inspect(
    folder: Annotated[Path, typer.Argument(help="Folder with safetensors, pruned by anyone.")],
    layers: Annotated[bool, typer.Option("--layers", help="One line for every matrix.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write what was found there as well.")
    ] = None,
) -> None:
    """Show sparsity and n:m patterns of a checkpoint, and whether masks and record hold.

    In n:m, n counts the ZEROS. Exit status 1 means that removed weights are not zero, that
    thanos.json and the files disagree, also by their SHA-256, or that a certificate in thanos.json
    failed. Exit status 3 means that nothing failed, but that a certificate in thanos.json is not
    decidable.
    """
    check_writable(json_file, "--json")
    record = read_record(folder)
    with progress_bar("inspecting") as show:
        show("SHA-256 of the files", 0, 1)
        changed = changed_files(folder, record or {})
    # First, because a damaged file may end the reading of all.
    say_first([f"{folder / name} {why}, by {RECORD}." for name, why in changed.items()])
    with progress_bar("inspecting") as show:
        seen = []
        for layer in inspect_folder(folder, record, {}):
            show(layer.name, 0, 1)
            seen.append(layer)
    if record and not described_files(record):
        say(f"{RECORD} has no SHA-256 of the files: they were not compared.")
    groups = grouped(seen, lambda layer: _asked(layer, layer.name) if layers else _kind(layer))
    table(str(folder), HEADINGS, [_row(name, group) for name, group in groups.items()])
    problems = [f"{layer.name}: {problem}" for layer in seen for problem in layer.problems]
    say_first(problems)
    certificates = _say_certificates(record)
    verdict = FAILED if problems or changed else certificates
    content = {
        "holds": verdict == PASSED,
        "changed_files": changed,
        "certificates": certificates,
        "layers": [layer.as_dict() for layer in seen],
    }
    write_result(json_file, content)
    if record or (folder / MASKS).is_file():
        say("NOT all that was pruned holds." if problems or changed else "All zeros hold.")
    raise typer.Exit(OF_VERDICT[verdict])


def _kind(layer: SeenLayer) -> str:
    return _asked(layer, kind_of(layer.name, layer.seen.shape))


def _asked(layer: SeenLayer, name: str) -> str:
    return f"{name}, {layer.asked}" if layer.asked else name


def _row(name: str, group: list[SeenLayer]) -> list[str]:
    """A row of the table with HEADINGS."""
    zeros = sum(layer.seen.zeros for layer in group)
    weights = sum(layer.seen.shape[0] * layer.seen.shape[1] for layer in group)
    return [
        name,
        f"{len(group):,}",
        f"{zeros / weights:.2%}",
        _pattern_of(group),
        f"{sum(layer.lost for layer in group):,}",
    ]


def _pattern_of(group: list[SeenLayer]) -> str:
    """The pattern that all layers show; by chance single layers may show more."""
    if len({layer.seen.describe() for layer in group}) == 1:
        return group[0].seen.describe()
    common = set.intersection(*(set(layer.seen.n_of_m) for layer in group))
    return ", ".join(f"{n}:{m}" for n, m in sorted(common)) or "differs"


def _say_certificates(record: dict[str, Any] | None) -> str:
    """Print and return the joint verdict of a record's certificates; PASSED without a record."""
    if record is None:
        say("There is no thanos.json: nothing is known of what was asked for.")
        return PASSED
    pruned = [layer for layer in record["layers"] if layer["options"]]
    undecided = [layer for layer in pruned if recorded(layer) == NOT_DECIDABLE]
    say_first([f"{layer['name']} is {NOT_DECIDABLE}: {_reason(layer)}" for layer in undecided])
    say(f"Certificates passed when it was pruned: {''.join(counted(pruned))}.")
    return together(recorded(layer) for layer in pruned)


def _reason(layer: dict[str, Any]) -> str:
    try:
        return reasons(layer["certificate"])
    except (KeyError, TypeError, ValueError):
        return "its record does not say why"


PACK_HEADINGS = ["layers", "number", "dense bytes", "packed bytes", "share"]


def pack(
    folder: Annotated[Path, typer.Argument(help="A pruned checkpoint, of thanos prune.")],
    out: Annotated[Path, typer.Option(help="New or empty folder for the packed checkpoint.")],
    form: Annotated[
        str, typer.Option(help="bitmask, nm, compact, or auto: the one for each layer's pattern.")
    ] = "auto",
) -> None:
    """Store a pruned checkpoint in fewer bytes; thanos unpack brings back every bit of it."""
    with progress_bar("packing") as show:
        sizes = pack_checkpoint(folder, out, form, progress=show)
    table(f"{folder}, packed", PACK_HEADINGS, _size_rows(sizes))
    dense, packed = sizes.total
    say(f"{dense:,} bytes became {packed:,} ({packed / dense:.1%}), compared bit for bit: {out}")


def unpack(
    packed: Annotated[Path, typer.Argument(help="Folder of thanos pack.")],
    out: Annotated[Path, typer.Option(help="New or empty folder for the checkpoint.")],
) -> None:
    """Write a packed checkpoint as it was before, bit for bit."""
    with progress_bar("unpacking") as show:
        unpack_checkpoint(packed, out, progress=show)
    say(f"Every file is as it was, by its SHA-256. Written to {out}.")


def _size_rows(sizes: PackedSizes) -> list[list[str]]:
    """Table rows: one per layer kind, then other tensors, headers, masks, other files, total."""
    kinds = grouped(
        sizes.layers.values(), lambda layer: (kind_of(layer.name, layer.shape), layer.pattern)
    )
    shown = [
        [
            ", ".join([kind, pattern, *sorted({form for each in layers for form in each.forms})]),
            f"{len(layers):,}",
            *_counts(*plus(*(layer.bytes for layer in layers))),
        ]
        for (kind, pattern), layers in kinds.items()
    ]
    for what, counts in (
        ("other tensors", sizes.others),
        ("headers of weight files", sizes.headers),
        ("masks", sizes.masks),
        ("other files", sizes.beside),
        ("all files", sizes.total),
    ):
        shown.append([what, "", *_counts(*counts)])
    return shown


def _counts(dense: int, packed: int) -> list[str]:
    return [f"{dense:,}", f"{packed:,}", f"{packed / dense:.1%}" if dense else ""]


def reapply(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of the fine-tuned checkpoint.")],
    masks: Annotated[Path, typer.Option(help="The pruned checkpoint, or its masks.safetensors.")],
    out: Annotated[Path, typer.Option(help="New or empty folder for the result.")],
) -> None:
    """Set the weights that pruning had removed to zero again."""
    with progress_bar("reapplying") as show:
        lost = reapply_checkpoint(checkpoint, masks, out, progress=show)
    layers = sum(count > 0 for count in lost.values())
    say(
        f"{sum(lost.values()):,} removed weights in {layers:,} of {len(lost):,} layers were not "
        f"zero and are again. Written to {out}."
    )
