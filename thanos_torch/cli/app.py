"""Commands of `thanos`, and how they end."""

import sys

import typer

from thanos_torch.cli.bench import bench
from thanos_torch.cli.bench_compare import compare
from thanos_torch.cli.bench_cost import cost
from thanos_torch.cli.bench_inference import inference
from thanos_torch.cli.bench_speed import speed
from thanos_torch.cli.certify import certify
from thanos_torch.cli.evaluate import evaluate
from thanos_torch.cli.inspect import inspect
from thanos_torch.cli.pack import pack, unpack
from thanos_torch.cli.prune import prune
from thanos_torch.cli.reapply import reapply
from thanos_torch.cli.verify import verify

app = typer.Typer(
    help="Prune language models with Thanos, and prove that every layer was pruned right.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # errors of usage on plain lines, like all others
)
app.command()(prune)
app.command()(inspect)
app.command()(certify)
app.command()(reapply)
app.command()(pack)
app.command()(unpack)
app.command("eval")(evaluate)
benches = typer.Typer(rich_markup_mode=None)
benches.callback(invoke_without_command=True)(bench)
benches.command()(speed)
benches.command()(compare)
benches.command()(cost)
benches.command()(inference)
app.add_typer(benches, name="bench")
app.command(
    # The judge reads its options itself: they are the same without this program.
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)(verify)


def run() -> None:
    """Run a command, and say in one line why it cannot go on.

    Exit status 0: all was done and verified. 1: something was not. 2: there is no such command or
    option. 3: nothing failed, but a layer is not decidable.
    """
    try:
        app()
    except (ValueError, OSError) as error:
        sys.exit(f"thanos: {error}")
