"""`thanos certify`: judge a pruned checkpoint again from kept Gram matrices."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer

from thanos_torch.cli.display import progress_bar, say, table
from thanos_torch.cli.options import check_writable
from thanos_torch.models import (
    RECORD,
    GramReader,
    Judged,
    Tensors,
    asked_of,
    checkpoint_folder,
    judge_again,
    places_of,
    read_record,
    same_tensors,
)
from thanos_torch.models.globs import matching
from verification import certify as judge

HEADINGS = ["layers", "number", "asked for", "worst cosine", "passed"]
SHOWN = 10  # failures that are printed; the JSON file holds all


def certify(
    original: Annotated[str, typer.Argument(help="The dense checkpoint folder, or smollm2-135m.")],
    pruned: Annotated[Path, typer.Argument(help="The pruned checkpoint folder.")],
    gram: Annotated[Path, typer.Option(help="What --keep-gram made, or a file named by layers.")],
    include: Annotated[
        list[str] | None, typer.Option(help="Glob on layer names: judge no others. Repeatable.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the certificates there as well.")
    ] = None,
) -> None:
    """Judge every layer of PRUNED by ORIGINAL and saved Gram matrices.

    Of thanos.json in PRUNED only what was asked for is believed. Exit status 0 means that every
    layer was judged and passed, and that no other tensor was changed, lost or added.
    """
    check_writable(json_file, "--json")
    record = read_record(pruned)
    if record is None:
        raise ValueError(f"{pruned} has no {RECORD}, which says what was asked for")
    asked, places = asked_of(record), places_of(record)
    chosen = list(asked)
    if include:
        chosen = [n for glob in include for n in matching(glob, list(asked), "--include")]
    before, after = Tensors(checkpoint_folder(original)), Tensors(pruned)
    grams = GramReader(gram)
    judged: list[Judged] = []
    with progress_bar("certifying") as show:
        for number, name in enumerate(dict.fromkeys(chosen)):
            show(name, number, len(chosen))
            place = places.get(name)
            judged.append(judge_again(name, asked[name], place, before, after, grams, judge))
        same, others = same_tensors(before, after, places, set(asked))
    _show(original, pruned, judged, same, others)
    passed = bool(judged) and all(layer.passed for layer in judged) and not others
    if json_file:
        layers = [layer.as_dict() for layer in judged]
        content = {"passed": passed, "not_as_before": others, "layers": layers}
        json_file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    raise typer.Exit(0 if passed else 1)


def _show(
    original: str, pruned: Path, judged: list[Judged], same: int, others: dict[str, str]
) -> None:
    kinds: dict[tuple[str, str], list[Judged]] = defaultdict(list)
    for layer in judged:
        shape = " x ".join(map(str, layer.shape))
        asked = layer.options.described()
        kinds[f"{layer.name.rpartition('.')[2]} {shape}", asked].append(layer)
    rows = [_row(kind, asked, layers) for (kind, asked), layers in kinds.items()]
    table(f"{pruned}, from {original}", HEADINGS, rows)
    failed = [layer for layer in judged if not layer.passed]
    _say_first([f"{layer.name} FAILED: {_reason(layer)}" for layer in failed])
    _say_first(
        [
            f"{name} was {what.upper()}, though nobody asked for that"
            for name, what in others.items()
        ]
    )
    say(f"{same} other tensors are as in the original.")
    say(f"{len(judged) - len(failed)} of {len(judged)} layers passed.")


def _say_first(lines: list[str]) -> None:
    for line in lines[:SHOWN]:
        say(line)
    if len(lines) > SHOWN:
        say(f"... and {len(lines) - SHOWN} more.")


def _row(kind: str, asked: str, layers: list[Judged]) -> list[str]:
    """One line of the table, as in HEADINGS."""
    cosines = [
        float(check["value"])
        for layer in layers
        if layer.certificate
        for check in layer.certificate["checks"]
        if check["name"] == "updates"
    ]
    worst = f"{max(cosines):.1e}" if cosines else ""
    passed = f"{sum(layer.passed for layer in layers)} of {len(layers)}"
    return [kind, str(len(layers)), asked, worst, passed]


def _reason(layer: Judged) -> str:
    if layer.certificate is None:
        return layer.problem
    failed = [check for check in layer.certificate["checks"] if not check["passed"]]
    texts = (f"{check['name']} {float(check['value']):.3g} {check['where']}" for check in failed)
    return "; ".join(text.strip() for text in texts)
