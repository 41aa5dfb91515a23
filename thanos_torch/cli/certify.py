"""`thanos certify`: judge a pruned checkpoint again, and show the verdict."""

from pathlib import Path
from typing import Annotated, Any

import typer

from thanos_torch.checkpoint.converted import AUTO
from thanos_torch.checkpoint.record import FAILED, NOT_DECIDABLE, count_verdicts, reasons, worst
from thanos_torch.cli.display import (
    OF_VERDICT,
    grouped,
    kind_of,
    say,
    say_first,
    table,
    write_result,
)
from thanos_torch.cli.options import (
    BLOCK_SIZE,
    DAMPING,
    HOW,
    METHOD,
    NAMES,
    RESULT,
    WHAT,
    AcceptGemmaTerms,
    NCountsZeros,
    PatternText,
    Recipe,
    Switches,
    Threads,
    TrustRemoteCode,
    check_dtype,
    check_writable,
    read_rules,
)
from thanos_torch.cli.progress import progress_bar
from thanos_torch.models import (
    RECORD,
    Asked,
    CheckpointVerdict,
    Judged,
    Original,
    checkpoint_folder,
    judge_checkpoint,
    read_record,
)
from thanos_torch.runtime.threads import use_threads
from verification import certify as judge

AS_ASKED = typer.Option(help="As asked of thanos prune.", rich_help_panel=HOW)
HEADINGS = ["layers", "number", "replay", "loss / exact", "gap of refit", "passed"]


def show_verdict(original: str, pruned: Path, found: CheckpointVerdict) -> None:
    """Print the provenance, a table with one row per kind of layer, and the verdict.

    A row has the worst value of its layers; `replay` is the distance from the exact replay divided
    by the allowed distance.
    """
    say(found.provenance.first_line())
    for warning in found.provenance.warnings():
        say(f"WARNING, not the default: {warning}.")
    kinds = grouped(
        found.judged, lambda each: (kind_of(each.name, each.shape), each.options.described())
    )
    rows = [_row(kind, asked, layers) for (kind, asked), layers in kinds.items()]
    table(f"{pruned}, from {original}", HEADINGS, rows)
    for verdict in (FAILED, NOT_DECIDABLE):
        say_first(
            [
                f"{layer.name} {verdict.upper()}: {_reason(layer)}"
                for layer in found.judged
                if layer.verdict == verdict
            ]
        )
    say_first([_changed(name, what) for name, what in found.not_as_before.items()])
    if found.tensors.unjudged:
        number = len(found.tensors.unjudged)
        say(f"{number:,} layers that differ from the original were NOT judged, as --include asks.")
    written = found.provenance.asked.written
    tensors = "other tensors" if written == AUTO else f"other tensors, in {written},"
    say(f"{found.tensors.same:,} {tensors} and {found.files.same:,} files are as in the original.")
    passed, undecided = count_verdicts([layer.verdict for layer in found.judged])
    say(f"{passed} layers passed{undecided}. Judged in {found.seconds:.1f} s.")


def _changed(name: str, what: str) -> str:
    word, _, how = what.partition(": ")
    return f"{name} was {word.upper()}, though nobody asked for that{how and ': '}{how}"


def _row(kind: str, asked: str, layers: list[Judged]) -> list[str]:
    """A row of the table with HEADINGS."""
    certificates = [layer.certificate for layer in layers]
    passed = count_verdicts([layer.verdict for layer in layers])
    numbers = [
        _number(worst(certificates, "replay"), ".2g"),
        _number(worst(certificates, "loss"), ".6g"),
        _number(worst(certificates, "gap"), ".1e"),
    ]
    return [f"{kind}, {asked}", f"{len(layers):,}", *numbers, "".join(passed)]


def _number(value: float | None, how: str) -> str:
    return "" if value is None else format(value, how)


def _reason(layer: Judged) -> str:
    return layer.problem if layer.certificate is None else reasons(layer.certificate)


def certify(
    original: Annotated[
        str, typer.Argument(help=f"The dense checkpoint folder, or by name {NAMES}.")
    ],
    pruned: Annotated[Path, typer.Argument(help="The pruned checkpoint folder.")],
    gram: Annotated[
        Path,
        typer.Option(
            help="What --keep-gram made, or a file named by layers.", rich_help_panel=WHAT
        ),
    ],
    pattern: PatternText = None,
    recipe: Recipe = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB", help="Layers with such names were to stay dense.", rich_help_panel=WHAT
        ),
    ] = None,
    method: Annotated[str | None, AS_ASKED] = None,
    block_size: Annotated[int | None, AS_ASKED] = None,
    damping: Annotated[float | None, AS_ASKED] = None,
    refit: Annotated[int | None, AS_ASKED] = None,
    ablation: Switches = None,
    dtype: Annotated[str | None, typer.Option(help="As asked of thanos prune.")] = None,
    n_counts_zeros: NCountsZeros = False,
    include: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="Judge layers with such names only. Repeatable.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    threads: Threads = 0,
    trust_remote_code: TrustRemoteCode = False,
    accept_gemma_terms: AcceptGemmaTerms = False,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", help="Write the certificates there as well.", rich_help_panel=RESULT
        ),
    ] = None,
) -> None:
    """Judge every layer of PRUNED by ORIGINAL and saved Gram matrices.

    With --pattern or --recipe the command line says what was asked for, in the words of thanos
    prune. Else thanos.json in PRUNED does, and nothing but that is taken from it.

    Exit status 0: every layer was judged and passed, and no other tensor and no other file was
    changed, lost or added. 1: something failed. 3: nothing failed, but a layer is not decidable.
    """
    use_threads(threads)
    check_writable(json_file, "--json")
    check_dtype(dtype or AUTO)
    options = {"method": method, "block_size": block_size, "damping": damping, "refit": refit}
    given = {name: value for name, value in options.items() if value is not None}
    by_command_line = pattern is not None or recipe is not None
    if not by_command_line:
        _refuse_alone({**given, "ablation": ablation, "exclude": exclude, "dtype": dtype})
    record = None if by_command_line else _record(pruned)
    dense = Original(checkpoint_folder(original), trust_remote_code=trust_remote_code)
    if record is None:
        defaults = {"method": METHOD, "block_size": BLOCK_SIZE, "damping": DAMPING, "refit": 0}
        rules = read_rules(
            pattern, recipe, n_counts_zeros, None, exclude, {**defaults, **given}, ablation
        )
        asked = Asked.by_rules("the command line", rules, dense.shapes, dtype or AUTO)
    else:
        asked = Asked.by_record(str(pruned / RECORD), record)
    with progress_bar("certifying") as show:
        found = judge_checkpoint(
            dense, pruned, asked, gram, judge, include=include or (), progress=show
        )
    show_verdict(original, pruned, found)
    write_result(json_file, found.as_dict())
    raise typer.Exit(OF_VERDICT[found.verdict])


def _refuse_alone(options: dict[str, Any]) -> None:
    """Raise BadParameter if an option stands without --pattern or --recipe.

    What was asked for comes either from the command line alone or from thanos.json alone.
    """
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
