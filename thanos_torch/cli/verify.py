"""`thanos verify`: the judge of implementations, which brings its own options."""

import typer

from verification.conformance.command import main


def verify(context: typer.Context) -> None:
    """Judge an implementation: a Python function, a program in any language, or its outputs.

    See `thanos verify --help`. Exit status 0 means that it passed everything that it supports.
    """
    raise typer.Exit(main(context.args, program="thanos verify"))
