"""`thanos verify`: the judge of implementations, which brings its own options."""

import typer

from thanos_torch.models.threads import blas_threads
from verification.conformance.command import main

COLUMNS = 48  # of the widest layer that it judges


def verify(context: typer.Context) -> None:
    """Judge an implementation: a Python function, a program in any language, or its outputs.

    See `thanos verify --help`. Exit status 0 means that it passed everything that it supports.
    """
    with blas_threads(COLUMNS):
        status = main(context.args, program="thanos verify")
    raise typer.Exit(status)
