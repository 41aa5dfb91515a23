"""The entry point of the program `thanos`; also works without the extra `models`."""

import sys
from importlib.metadata import version

VERSION = "--version"
MODELS = "pip install 'thanos-pruning[models,verification]'"


def main() -> None:
    """Run the program `thanos`; its exit statuses are `thanos_torch.cli.display.ExitStatus`."""
    try:
        from thanos_torch.cli.app import run
    except ModuleNotFoundError as error:
        sys.exit(_without_models(sys.argv[1:], error))
    try:
        run()
    except ModuleNotFoundError as error:
        sys.exit(_missing(error))


def _without_models(arguments: list[str], error: ModuleNotFoundError) -> int | str:
    """Run a command that needs no extra. Returns an exit status, or a message for status 1."""
    if arguments == [VERSION]:
        show_version()
        return 0
    if arguments[:1] != ["verify"]:
        return f"{_missing(error)}; without it there are `thanos verify` and `thanos {VERSION}`"
    from verification.conformance.command import main as verify

    return verify(arguments[1:], program="thanos verify")


def show_version() -> None:
    """Print the name and version of the package."""
    print("thanos-pruning", version("thanos-pruning"))


def _missing(error: ModuleNotFoundError) -> str:
    package = str(error.name).partition(".")[0]
    return f"thanos: {package} is missing: {MODELS}"
