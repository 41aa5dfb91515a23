"""The program `thanos` with all its commands; needs the extra `models`."""

import sys
import traceback
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Annotated

import typer

from thanos_torch.checkpoint.terms import TermsError
from thanos_torch.cli.certify import certify
from thanos_torch.cli.checkpoints import inspect, pack, reapply, unpack
from thanos_torch.cli.display import MEANINGS, ExitStatus
from thanos_torch.cli.evaluate import evaluate
from thanos_torch.cli.help import CONTEXT, GroupedCommand
from thanos_torch.cli.prune import prune
from thanos_torch.cli.version import cache_line, version_lines
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
EPILOG = f"{EXIT_STATUSES}\n\n{cache_line()}"


def verify(context: typer.Context) -> None:
    """Judge an implementation: a Python function, a program in any language, or its outputs.

    See `thanos verify --help`. Exit status 0 means that it passed everything that it supports.
    """
    with blas_threads(COLUMNS):
        status = main(context.args, program="thanos verify")
    raise typer.Exit(ExitStatus(status))


app = typer.Typer(
    help="Prune language models with Thanos, and prove that every layer was pruned right.",
    epilog=EPILOG,
    context_settings=CONTEXT,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # errors of usage on plain lines, like all others
)


def _version(asked: bool) -> None:
    if asked:
        print(*version_lines(), sep="\n")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Show the versions, and where downloads are kept.",
            callback=_version,
            is_eager=True,
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option(DEBUG, help="Show the traceback of an error; in any place.")
    ] = False,
) -> None:
    """The options of `thanos` itself."""


# In `thanos --help` each command has one line, which must not be cut.
COMMANDS: dict[Callable[..., None], str] = {
    prune: "Prune a model, with a certificate for every layer.",
    inspect: "Show the zeros of a checkpoint, and whether they hold.",
    certify: "Judge every layer of a pruned checkpoint again.",
    reapply: "Set the weights that pruning had removed to zero again.",
    pack: "Store a pruned checkpoint in fewer bytes.",
    unpack: "Write a packed checkpoint as it was before, bit for bit.",
}
for command, line in COMMANDS.items():
    app.command(cls=GroupedCommand, short_help=line)(command)
app.command(
    "eval", cls=GroupedCommand, short_help="Measure perplexity, or accuracy in zero-shot tasks."
)(evaluate)
for entry in entry_points(group="thanos.commands"):
    app.add_typer(entry.load(), name=entry.name)
app.command(
    # The judge parses its own options, so that they are the same without the extra `models`.
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
    short_help="Judge an implementation of Thanos, in any language.",
)(verify)


def run() -> None:
    """Run a command. An error ends it with one line and status FAILED of `ExitStatus`."""
    arguments = [each for each in sys.argv[1:] if each != DEBUG]
    try:
        app(arguments)
    except TermsError as error:
        print(error.explained(), file=sys.stderr)
        sys.exit(ExitStatus.USAGE)
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
