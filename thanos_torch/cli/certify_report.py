"""What `thanos certify` shows."""

from collections import defaultdict
from pathlib import Path

from thanos_torch.cli.display import say, say_first, table
from thanos_torch.models import CheckpointVerdict, Judged
from thanos_torch.models.verdicts import (
    FAILED,
    NOT_DECIDABLE,
    count_verdicts,
    reasons,
    worst,
)

HEADINGS = ["layers", "number", "asked for", "replay", "loss / exact", "gap of refit", "passed"]


def show_verdict(original: str, pruned: Path, found: CheckpointVerdict) -> None:
    """Where everything comes from, a table with one line for each kind of layer, and the verdict.

    Of each kind of layer the table has the worst: `replay` is the distance from the exact replay
    over what is allowed.
    """
    say(found.provenance.first_line())
    for warning in found.provenance.warnings():
        say(f"WARNING, not the default: {warning}.")
    kinds: dict[tuple[str, str], list[Judged]] = defaultdict(list)
    for layer in found.judged:
        shape = " x ".join(map(str, layer.shape))
        asked = layer.options.described()
        kinds[f"{layer.name.rpartition('.')[2]} {shape}", asked].append(layer)
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
        say(f"{number} layers that differ from the original were NOT judged, as --include asks.")
    say(f"{found.tensors.same} other tensors and {found.files.same} files are as in the original.")
    passed, undecided = count_verdicts([layer.verdict for layer in found.judged])
    say(f"{passed} layers passed{undecided}. Judged in {found.seconds:.1f} s.")


def _changed(name: str, what: str) -> str:
    word, _, how = what.partition(": ")
    return f"{name} was {word.upper()}, though nobody asked for that{how and ': '}{how}"


def _row(kind: str, asked: str, layers: list[Judged]) -> list[str]:
    """One line of the table, as in HEADINGS."""
    certificates = [layer.certificate for layer in layers]
    passed = count_verdicts([layer.verdict for layer in layers])
    numbers = [
        _number(worst(certificates, "replay"), ".2g"),
        _number(worst(certificates, "loss"), ".6g"),
        _number(worst(certificates, "gap"), ".1e"),
    ]
    return [kind, str(len(layers)), asked, *numbers, "".join(passed)]


def _number(value: float | None, how: str) -> str:
    return "" if value is None else format(value, how)


def _reason(layer: Judged) -> str:
    return layer.problem if layer.certificate is None else reasons(layer.certificate)
