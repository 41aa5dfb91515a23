"""The command line, `thanos`: the only place that joins pruning and its judge."""

import sys


def main() -> None:
    """Entry point of the program `thanos`; see `thanos_torch.cli.app.run` for its exit status."""
    try:
        from thanos_torch.cli.app import run

        run()
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        extras = "pip install 'thanos-pruning[models,verification]'"
        sys.exit(f"thanos: {package} is missing: {extras}")
