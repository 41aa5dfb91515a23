"""The command line, `thanos`: the only place that joins pruning and its judge."""

import sys


def main() -> None:
    """Entry point of the program `thanos`."""
    try:
        from thanos_torch.cli.app import run
    except ImportError as error:
        extras = "pip install 'thanos-pruning[models,verification]'"
        sys.exit(f"thanos: {error.name} is missing: {extras}")
    run()
