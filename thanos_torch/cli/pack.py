"""`thanos pack` and `thanos unpack`: a pruned checkpoint in fewer bytes, and back."""

from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer

from thanos_torch.cli.display import say, table
from thanos_torch.models import PackedLayer, PackedSizes, pack_checkpoint, unpack_checkpoint

PACKED_HEADINGS = ["layer", "layers", "pattern", "form", "dense bytes", "packed bytes", "share"]


def pack(
    folder: Annotated[Path, typer.Argument(help="A pruned checkpoint, of thanos prune.")],
    out: Annotated[Path, typer.Option(help="New or empty folder for the packed checkpoint.")],
    form: Annotated[
        str, typer.Option(help="bitmask, nm, compact, or auto: the one for each layer's pattern.")
    ] = "auto",
) -> None:
    """Store a pruned checkpoint in fewer bytes; thanos unpack brings back every bit of it."""
    sizes = pack_checkpoint(folder, out, form)
    table(f"{folder}, packed", PACKED_HEADINGS, rows(sizes))
    dense, packed = sizes.total
    say(f"{dense} bytes are {packed} now ({packed / dense:.1%}), compared bit for bit: {out}")


def unpack(
    packed: Annotated[Path, typer.Argument(help="Folder of thanos pack.")],
    out: Annotated[Path, typer.Option(help="New or empty folder for the checkpoint.")],
) -> None:
    """Write a packed checkpoint as it was before, bit for bit."""
    unpack_checkpoint(packed, out)
    say(f"Every file is as it was, by its SHA-256. Written to {out}.")


def rows(sizes: PackedSizes) -> list[list[str]]:
    """One for each kind of layer, and for what else there is, as in PACKED_HEADINGS."""
    kinds: dict[str, list[PackedLayer]] = defaultdict(list)
    for layer in sizes.layers.values():
        shape = f"{layer.shape[0]} x {layer.shape[1]}"
        kinds[f"{layer.name.rpartition('.')[2]} {shape}, {layer.pattern}"].append(layer)
    shown = [
        [
            kind.partition(",")[0],
            str(len(layers)),
            layers[0].pattern,
            ", ".join(sorted({form for layer in layers for form in layer.forms})),
            *_counts(
                sum(layer.bytes[0] for layer in layers), sum(layer.bytes[1] for layer in layers)
            ),
        ]
        for kind, layers in kinds.items()
    ]
    for what, counts in (
        ("other tensors", sizes.others),
        ("headers of weight files", sizes.headers),
        ("masks", sizes.masks),
        ("other files", sizes.beside),
        ("all files", sizes.total),
    ):
        shown.append([what, "", "", "", *_counts(*counts)])
    return shown


def _counts(dense: int, packed: int) -> list[str]:
    return [str(dense), str(packed), f"{packed / dense:.1%}" if dense else ""]
