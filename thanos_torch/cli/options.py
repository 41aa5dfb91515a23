"""Options that several commands share."""

from typing import Annotated

import typer

from reference.patterns import Pattern, SemiStructured, parse_pattern

Model = Annotated[
    str, typer.Argument(help="Hub id, checkpoint folder, .gguf file, or smollm2-135m.")
]
Dataset = Annotated[
    str, typer.Option(help="Text: pydoc (in every Python), wikitext2, c4, or a file.")
]
Seqlen = Annotated[int, typer.Option(help="Tokens in a window.")]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, ...")]


def read_pattern(text: str, n_counts_zeros: bool) -> Pattern:
    """A pattern from the command line. n:m with n ≠ m/2 means two things in the field: ask."""
    pattern = parse_pattern(text)
    if isinstance(pattern, SemiStructured) and 2 * pattern.n != pattern.m and not n_counts_zeros:
        raise ValueError(
            f"pattern {text} removes {pattern.n} of every {pattern.m} weights (n counts the zeros, "
            "as in the paper; NVIDIA counts what is kept): say --n-counts-zeros if that is meant"
        )
    return pattern


def explained(pattern: Pattern) -> str:
    """The text form, and for n:m which of the two numbers it is."""
    if isinstance(pattern, SemiStructured):
        return f"{pattern} ({pattern.n} zeros in every {pattern.m})"
    return str(pattern)
