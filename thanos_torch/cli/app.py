"""The program `thanos` with all its commands; needs the extra `models`."""

import sys
import traceback
from importlib.metadata import entry_points
from typing import Annotated

import typer

from thanos_torch.cli import show_version
from thanos_torch.cli.certify import certify
from thanos_torch.cli.checkpoints import inspect, pack, reapply, unpack
from thanos_torch.cli.display import MEANINGS, ExitStatus
from thanos_torch.cli.evaluate import evaluate
from thanos_torch.cli.prune import prune
from thanos_torch.runtime.errors import said_by
from thanos_torch.runtime.strangers import printable
from thanos_torch.runtime.threads import blas_threads
from verification.conformance.command import main

DEBUG = "--debug"
COLUMNS = 50  # of the widest layer that `thanos verify` judges

# Typer keeps the lines of a paragraph that starts with \b.
EXIT_STATUSES = "\b\nExit statuses:\n" + "\n".join(
    f"  {status.value}  {meaning}" for status, meaning in MEANINGS.items()
)


def verify(context: typer.Context) -> None:
    """Judge an implementation: a Python function, a program in any language, or its outputs.

    See `thanos verify --help`. Exit status 0 means that it passed everything that it supports.
    """
    with blas_threads(COLUMNS):
        status = main(context.args, program="thanos verify")
    raise typer.Exit(ExitStatus(status))


app = typer.Typer(
    help="Prune language models with Thanos, and prove that every layer was pruned right.",
    epilog=EXIT_STATUSES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # errors of usage on plain lines, like all others
)


def _version(asked: bool) -> None:
    if asked:
        show_version()
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_version, is_eager=True),
    ] = False,
    debug: Annotated[
        bool, typer.Option(DEBUG, help="Show the traceback of an error; in any place.")
    ] = False,
) -> None:
    """The options of `thanos` itself."""


app.command()(prune)
app.command()(inspect)
app.command()(certify)
app.command()(reapply)
app.command()(pack)
app.command()(unpack)
app.command("eval")(evaluate)
for command in entry_points(group="thanos.commands"):
    app.add_typer(command.load(), name=command.name)
app.command(
    # The judge parses its own options, so that they are the same without the extra `models`.
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)(verify)


def run() -> None:
    """Run a command. An error ends it with one line and status FAILED of `ExitStatus`."""
    arguments = [each for each in sys.argv[1:] if each != DEBUG]
    try:
        app(arguments)
    except (ValueError, OSError) as error:
        if DEBUG in sys.argv:
            traceback.print_exc()
        sys.exit(f"thanos: {printable(str(error))}")  # Python prints it and exits with 1
    except ModuleNotFoundError:
        raise
    except Exception as error:  # what nobody foresaw is said in one line too
        if DEBUG in sys.argv:
            traceback.print_exc()
        said = (
            f"a fault of thanos, please report it: {said_by(error)} (--debug shows the traceback)"
        )
        sys.exit(f"thanos: {printable(said)}")
