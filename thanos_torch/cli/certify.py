"""`thanos certify`: judge a pruned checkpoint again from kept Gram matrices."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from thanos_torch.cli.certify_report import show_verdict
from thanos_torch.cli.display import progress_bar
from thanos_torch.cli.options import EXIT_STATUS, TrustRemoteCode, check_writable
from thanos_torch.cli.what import (
    BLOCK_SIZE,
    DAMPING,
    METHOD,
    NCountsZeros,
    PatternText,
    Recipe,
    Switches,
    read_rules,
)
from thanos_torch.models import (
    RECORD,
    Asked,
    Original,
    checkpoint_folder,
    judge_checkpoint,
    read_record,
)
from verification import certify as judge


def certify(
    original: Annotated[str, typer.Argument(help="The dense checkpoint folder, or smollm2-135m.")],
    pruned: Annotated[Path, typer.Argument(help="The pruned checkpoint folder.")],
    gram: Annotated[Path, typer.Option(help="What --keep-gram made, or a file named by layers.")],
    pattern: PatternText = None,
    recipe: Recipe = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Glob on layer names: these were to stay dense.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="As asked of thanos prune.")] = None,
    block_size: Annotated[int | None, typer.Option(help="As asked of thanos prune.")] = None,
    damping: Annotated[float | None, typer.Option(help="As asked of thanos prune.")] = None,
    refit: Annotated[int | None, typer.Option(help="As asked of thanos prune.")] = None,
    ablation: Switches = None,
    n_counts_zeros: NCountsZeros = False,
    include: Annotated[
        list[str] | None, typer.Option(help="Glob on layer names: judge no others. Repeatable.")
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the certificates there as well.")
    ] = None,
) -> None:
    """Judge every layer of PRUNED by ORIGINAL and saved Gram matrices.

    With --pattern or --recipe the command line says what was asked for, in the words of thanos
    prune. Else thanos.json in PRUNED does, and nothing but that is taken from it.

    Exit status 0: every layer was judged and passed, and no other tensor and no other file was
    changed, lost or added. 1: something failed. 3: nothing failed, but a layer is not decidable.
    """
    check_writable(json_file, "--json")
    options = {"method": method, "block_size": block_size, "damping": damping, "refit": refit}
    given = {name: value for name, value in options.items() if value is not None}
    by_command_line = pattern is not None or recipe is not None
    if not by_command_line:
        _refuse_alone({**given, "ablation": ablation, "exclude": exclude})
    record = None if by_command_line else _record(pruned)
    dense = Original(checkpoint_folder(original), trust_remote_code=trust_remote_code)
    if record is None:
        defaults = {"method": METHOD, "block_size": BLOCK_SIZE, "damping": DAMPING, "refit": 0}
        rules = read_rules(
            pattern, recipe, n_counts_zeros, None, exclude, {**defaults, **given}, ablation
        )
        asked = Asked.by_rules("the command line", rules, dense.shapes)
    else:
        asked = Asked.by_record(str(pruned / RECORD), record)
    with progress_bar("certifying") as show:
        found = judge_checkpoint(
            dense, pruned, asked, gram, judge, include=include or (), progress=show
        )
    show_verdict(original, pruned, found)
    if json_file:
        json_file.write_text(json.dumps(found.as_dict(), indent=1) + "\n", encoding="utf-8")
    raise typer.Exit(EXIT_STATUS[found.verdict])


def _refuse_alone(options: dict[str, Any]) -> None:
    """What was asked for comes from one source as a whole. Raises BadParameter."""
    for name, value in options.items():
        if value not in (None, []):
            option = f"--{name.replace('_', '-')}"
            raise typer.BadParameter("needs --pattern or --recipe", param_hint=option)


def _record(pruned: Path) -> dict[str, Any]:
    record = read_record(pruned)
    if record is None:
        raise ValueError(
            f"{pruned} has no {RECORD}, which says what was asked for: give --pattern or --recipe"
        )
    return record
