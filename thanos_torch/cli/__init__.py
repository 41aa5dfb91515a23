"""The entry point of the program `thanos`; also works without PyTorch and without any extra."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from thanos_torch.runtime.errors import Terminated

VERSION = "--version"
HELP = """usage: thanos verify ...    judges an implementation; see thanos verify --help
       thanos --version

Pruning language models, certifying and measuring them needs more packages:
"""
MODELS = "pip install 'thanos-pruning[models,verification]'"


def main() -> None:
    """Run the program `thanos`; its exit statuses are `thanos_torch.cli.display.ExitStatus`."""
    with _ending_cleanly():
        _run()


def _run() -> None:
    try:
        from thanos_torch.cli.app import run
    except ModuleNotFoundError as error:
        sys.exit(_without_models(sys.argv[1:], error))
    try:
        run()
    except ModuleNotFoundError as error:
        sys.exit(_missing(error))


@contextmanager
def _ending_cleanly() -> Iterator[None]:
    """Let SIGTERM, SIGHUP and SIGINT end the program as an error does: nothing half-written stays.

    The exit status is 128 and the signal's number, as shells have it.
    """

    def end(number: int, _: object) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)  # a second one would end the cleaning
        print(f"thanos: ended by {signal.Signals(number).name}", file=sys.stderr)
        raise Terminated(128 + number)

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        wanted = [
            signal.SIGINT,
            signal.SIGTERM,
            *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []),
        ]
        # What is ignored, as nohup has it, stays ignored.
        heard = (each for each in wanted if signal.getsignal(each) is not signal.SIG_IGN)
        before.update({each: signal.signal(each, end) for each in heard})
    try:
        yield
    except Terminated as ended:
        sys.exit(ended.status)
    finally:
        for each in before:
            signal.signal(each, before[each])


def _without_models(arguments: list[str], error: ModuleNotFoundError) -> int | str:
    """Run a command that needs no extra. Returns an exit status, or a message for status 1."""
    if not arguments or arguments[0] in ("--help", "-h"):
        print(f"{HELP}{MODELS}")
        return 0 if arguments else 2  # as Typer does
    if arguments == [VERSION]:
        from thanos_torch.cli.version import version_lines

        print(*version_lines(), sep="\n")
        return 0
    if arguments[:1] != ["verify"]:
        return f"{_missing(error)}; without it there are `thanos verify` and `thanos {VERSION}`"
    from verification.conformance.command import main as verify

    return verify(arguments[1:], program="thanos verify")


def _missing(error: ModuleNotFoundError) -> str:
    package = str(error.name).partition(".")[0]
    return f"thanos: {package} is missing: {MODELS}"
