"""Options that several commands share, and what makes them valid."""

from pathlib import Path
from typing import Annotated

import torch
import typer

from reference.patterns import Pattern, SemiStructured, parse_pattern
from thanos_torch.models.verdicts import FAILED, NOT_DECIDABLE, PASSED

Model = Annotated[
    str, typer.Argument(help="Hub id, checkpoint folder, .gguf file, or smollm2-135m.")
]
DATASET_HELP = (
    "Text: pydoc (in every Python), wikitext2, c4, owner/name[:configuration] of a hub, a file "
    "(.txt, .raw, .jsonl, .parquet; token ids as .npy, .safetensors), or a folder."
)
Dataset = Annotated[str, typer.Option(help=DATASET_HELP)]
Seqlen = Annotated[int, typer.Option(help="Tokens in a window.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.")
]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, ...")]

# 2 is a bad command line.
EXIT_STATUS = {PASSED: 0, FAILED: 1, NOT_DECIDABLE: 3}


def read_pattern(text: str, n_counts_zeros: bool) -> Pattern:
    """A pattern from the command line. n:m with n ≠ m/2 means two things in the field: ask."""
    try:
        pattern = parse_pattern(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--pattern") from None
    if isinstance(pattern, SemiStructured) and 2 * pattern.n != pattern.m and not n_counts_zeros:
        raise typer.BadParameter(
            f"{text} removes {pattern.n} of every {pattern.m} weights (n counts the zeros, as in "
            "the paper; NVIDIA counts what is kept): say --n-counts-zeros if that is meant",
            param_hint="--pattern",
        )
    return pattern


def explained(pattern: Pattern) -> str:
    """The text form, and for n:m which of the two numbers it is."""
    if isinstance(pattern, SemiStructured):
        return f"{pattern} ({pattern.n} zeros in every {pattern.m})"
    return str(pattern)


def check_device(device: str, option: str = "--device") -> None:
    """Refuse a device that this machine has not, before anything is loaded."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter if PyTorch was built without it
        reason = str(error).splitlines()[0]
        raise typer.BadParameter(f"{device!r}: {reason}", param_hint=option) from None


def check_writable(file: Path | None, option: str) -> None:
    """Refuse a file that could not be written, before the work whose result it is to hold."""
    if file and (file.is_dir() or not file.absolute().parent.is_dir()):
        raise typer.BadParameter(f"cannot write to {file}", param_hint=option)
