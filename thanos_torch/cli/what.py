"""What `thanos prune` is asked to do to which layers, from its options."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from thanos_torch.cli.options import explained, read_pattern
from thanos_torch.models import LayerOptions, Rules, read_recipe

PatternText = Annotated[
    str | None, typer.Option(help="unstructured:0.5, 2:4, structured:0.3, 2:4+outliers:0.1, ...")
]
Recipe = Annotated[
    Path | None,
    typer.Option(help="TOML file with patterns by layer; what it sets goes before other options."),
]
KeepGram = Annotated[
    Path | None,
    typer.Option(help="New or empty folder for the Gram matrices, which `thanos certify` needs."),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Show what would be pruned, estimate memory and time, no more."),
]
Include = Annotated[
    list[str] | None, typer.Option(help="Glob on layer names: prune no others. Repeatable.")
]
Exclude = Annotated[
    list[str] | None, typer.Option(help="Glob on layer names: leave these dense. Repeatable.")
]


def read_rules(
    pattern: str | None,
    recipe: Path | None,
    n_counts_zeros: bool,
    include: list[str] | None,
    exclude: list[str] | None,
    options: dict[str, Any],
) -> Rules:
    """Check and join what is asked; BadParameter or ValueError for what cannot be meant.

    options  method, block_size, damping, refit: for all that the recipe does not say itself
    """
    if recipe:
        rules = read_recipe(recipe, {**options, **({"pattern": pattern} if pattern else {})})
    elif pattern is None:
        raise typer.BadParameter("give a pattern, or a --recipe", param_hint="--pattern")
    else:
        wanted = read_pattern(pattern, n_counts_zeros)
        steps = options.pop("refit")
        rules = Rules(LayerOptions(wanted, **options, refit_steps=steps))
    for choice in _prunings(rules):
        choice.check()
        read_pattern(str(choice.pattern), n_counts_zeros)
    return replace(rules, include=tuple(include or ()), exclude=tuple(exclude or ()))


def described(rules: Rules) -> str:
    """Methods and patterns, for people."""
    choices = _prunings(rules)
    methods = dict.fromkeys(choice.method for choice in choices)
    patterns = dict.fromkeys(explained(choice.pattern) for choice in choices)
    return ", ".join([*methods, *patterns])


def _prunings(rules: Rules) -> list[LayerOptions]:
    return [choice for choice in rules.choices() if isinstance(choice, LayerOptions)]
