"""What `thanos prune` is asked to do to which layers, from its options."""

from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from reference.patterns import SWITCHES
from thanos_torch.cli.options import explained, read_pattern
from thanos_torch.models import Ablation, LayerOptions, Rules, read_recipe
from thanos_torch.models.recipe import switch_words

METHOD, BLOCK_SIZE, DAMPING = LayerOptions.method, LayerOptions.block_size, LayerOptions.damping
NCountsZeros = Annotated[
    bool, typer.Option("--n-counts-zeros", help="n of n:m counts zeros: needed for n != m/2.")
]
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
Switches = Annotated[
    list[str] | None,
    typer.Option(
        "--ablation",
        metavar="KEY=VALUE",
        help="Change a switch of thanos: "
        + "; ".join(
            f"{name}={'|'.join(str(choice).lower() for choice in choices[1:])}"
            for name, choices in SWITCHES.items()
        )
        + ". Repeatable.",
    ),
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
    ablation: list[str] | None,
) -> Rules:
    """Check and join what is asked; BadParameter or ValueError for what cannot be meant.

    options   method, block_size, damping, refit: for all that the recipe does not say itself
    ablation  switches in their text form, as well
    """
    switches = _read_switches(ablation or [])
    if recipe:
        given = {"pattern": pattern} if pattern else {}
        rules = read_recipe(recipe, {**options, **switches, **given})
    elif pattern is None:
        raise typer.BadParameter("give a pattern, or a --recipe", param_hint="--pattern")
    else:
        wanted = read_pattern(pattern, n_counts_zeros)
        steps = options.pop("refit")
        asked = LayerOptions(wanted, **options, refit_steps=steps, ablation=Ablation(**switches))
        rules = Rules(asked)
    for choice in _prunings(rules):
        choice.check()
        read_pattern(str(choice.pattern), n_counts_zeros)
    return replace(rules, include=tuple(include or ()), exclude=tuple(exclude or ()))


def described(rules: Rules) -> str:
    """Methods, patterns and changed switches, for people."""
    choices = _prunings(rules)
    methods = dict.fromkeys(choice.method for choice in choices)
    patterns = dict.fromkeys(explained(choice.pattern) for choice in choices)
    words = (switch_words(choice.ablation.changed()) for choice in choices)
    return ", ".join([*methods, *patterns, *dict.fromkeys(chain.from_iterable(words))])


def _read_switches(texts: list[str]) -> dict[str, Any]:
    """Switches by name; BadParameter for one that does not exist or is said twice."""
    switches: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in SWITCHES:
            raise typer.BadParameter(
                f"KEY must be one of {', '.join(SWITCHES)}, got {text!r}", param_hint="--ablation"
            )
        if name in switches:
            raise typer.BadParameter(f"{name} is said twice", param_hint="--ablation")
        choices = {str(choice).lower(): choice for choice in SWITCHES[name]}
        if value not in choices:
            known = ", ".join(choices)
            raise typer.BadParameter(
                f"{name} must be one of {known}, got {value!r}", param_hint="--ablation"
            )
        switches[name] = choices[value]
    return switches


def _prunings(rules: Rules) -> list[LayerOptions]:
    return [choice for choice in rules.choices() if isinstance(choice, LayerOptions)]
