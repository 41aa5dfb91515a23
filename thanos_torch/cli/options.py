"""Command-line options that several commands share, their checks, and the rules they make."""

from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from reference.patterns import SWITCHES, Pattern, SemiStructured, parse_pattern
from reference.threads import MOST_THREADS, number_variables
from thanos_torch.checkpoint.converted import read_dtype
from thanos_torch.checkpoint.named import NAMED
from thanos_torch.checkpoint.terms import GEMMA, Terms, note_acceptance
from thanos_torch.models import Ablation, LayerOptions, Rules, read_recipe
from thanos_torch.pruning.plan import switch_words
from thanos_torch.runtime import arguments
from thanos_torch.text.bos import Bos

METHOD, BLOCK_SIZE, DAMPING = LayerOptions.method, LayerOptions.block_size, LayerOptions.damping
EVALUATION_WINDOWS = 40  # of `thanos prune --eval`: minutes for a small model on a CPU

# Headings of `thanos prune --help`.
WHAT, HOW, TEXT, RESULT, RUN = "Layers and patterns", "Method", "Text", "Result", "Run"
TASKS = "Zero-shot tasks"

NAMES = " or ".join(NAMED)
Model = Annotated[
    str, typer.Argument(help=f"Hub id, checkpoint folder, .gguf file, or by name {NAMES}.")
]
DATASET_HELP = (
    "Text: pydoc (in every Python), wikitext2, c4, owner/name[:configuration] of a hub, a file "
    "(.txt, .raw, .jsonl, .json, .parquet; token ids as .npy, .safetensors), or a folder."
)
Dataset = Annotated[str, typer.Option(help=DATASET_HELP, rich_help_panel=TEXT)]
BosText = Annotated[
    Bos | None,
    typer.Option(
        "--bos",
        help="The BOS token: in front of each window, in front of the text, or none. Default: "
        "each for models that need it, as Gemma; else what the tokenizer does.",
        rich_help_panel=TEXT,
    ),
]
ColumnName = Annotated[
    str | None,
    typer.Option(
        "--column",
        metavar="NAME",
        help="Column of Parquet files and hubs, or key of JSON objects, that holds the text. "
        "Default: text; messages with --chat.",
        rich_help_panel=TEXT,
    ),
]
ChatFlag = Annotated[
    bool,
    typer.Option(
        "--chat",
        help="Read conversations through the model's chat template.",
        rich_help_panel=TEXT,
    ),
]
NSamples = Annotated[int, typer.Option(help="Windows to calibrate with.", rich_help_panel=TEXT)]
Seqlen = Annotated[int, typer.Option(help="Tokens in a window.", rich_help_panel=TEXT)]
Seed = Annotated[int, typer.Option(help="Of the choice of windows.", rich_help_panel=TEXT)]
TrustRemoteCode = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code", help="Run code that comes with the model.", rich_help_panel=RUN
    ),
]


def _accept(terms: Terms) -> Callable[[bool], bool]:
    def callback(asked: bool) -> bool:
        if asked:
            note_acceptance(terms)
        return asked

    return callback


# Its callback does all that there is to do, before the command loads a model.
AcceptGemmaTerms = Annotated[
    bool,
    typer.Option(
        GEMMA.option,
        help=f"Accept the {GEMMA.title} ({GEMMA.address.removeprefix('https://')}); once is "
        "enough.",
        rich_help_panel=RUN,
        callback=_accept(GEMMA),
    ),
]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, ...", rich_help_panel=RUN)]
Activations = Annotated[
    str,
    typer.Option(help="Where to keep what blocks read: disk or memory.", rich_help_panel=RUN),
]
RankTimeout = Annotated[
    float,
    typer.Option(
        help="Under torchrun: seconds that ranks wait for one another.", rich_help_panel=RUN
    ),
]


def check_dtype(dtype: str) -> None:
    """Raise BadParameter for a dtype that no checkpoint can be written in."""
    try:
        read_dtype(dtype)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--dtype") from None


def read_threads(text: str | int) -> int:
    """A number of threads. Raises BadParameter unless it is a whole number that can be."""
    try:
        number = int(text)
        number_variables(number)
    except ValueError:
        said = f"must be a whole number from 0 to {MOST_THREADS}, got {text!r}"
        raise typer.BadParameter(said) from None
    return number


Threads = Annotated[
    int,
    typer.Option(
        parser=read_threads,
        metavar="INTEGER",
        help="Threads of the CPU; 0: as many as OMP_NUM_THREADS says, or as there are cores.",
        rich_help_panel=RUN,
    ),
]


def read_pattern(text: str, n_counts_zeros: bool) -> Pattern:
    """Read a pattern. Raises BadParameter for an n:m that is ambiguous without --n-counts-zeros."""
    try:
        pattern = parse_pattern(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--pattern") from None
    if isinstance(pattern, SemiStructured) and 2 * pattern.n != pattern.m and not n_counts_zeros:
        raise typer.BadParameter(
            f"{text} removes {pattern.n} of every {pattern.m} weights (n counts the zeros, as in "
            "the paper; NVIDIA counts what is kept): say --n-counts-zeros if that is meant",
            param_hint="--pattern",
        )
    return pattern


def explained(pattern: Pattern) -> str:
    """A pattern for people; n:m with its meaning."""
    if isinstance(pattern, SemiStructured):
        return f"{pattern} ({pattern.n} zeros in every {pattern.m})"
    return str(pattern)


def check_device(device: str, option: str = "--device") -> None:
    """Raise BadParameter if this machine lacks the device, before anything is loaded."""
    try:
        arguments.check_device(device)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def check_writable(file: Path | None, option: str) -> None:
    """Raise BadParameter if a file cannot be written, before its content is computed."""
    if file and (file.is_dir() or not file.absolute().parent.is_dir()):
        raise typer.BadParameter(f"cannot write to {file}", param_hint=option)


Out = Annotated[
    Path | None,
    typer.Option(help="New or empty folder for the pruned checkpoint.", rich_help_panel=RESULT),
]
Dtype = Annotated[
    str,
    typer.Option(
        help="What weights are written in: float32, bfloat16, float16; auto: as MODEL has them.",
        rich_help_panel=RESULT,
    ),
]
KeepGram = Annotated[
    Path | None,
    typer.Option(
        help="New or empty folder for the Gram matrices, which `thanos certify` needs.",
        rich_help_panel=RESULT,
    ),
]
Evaluate = Annotated[
    bool,
    typer.Option(
        "--eval",
        help="Measure perplexity before and after, on the evaluation part of --dataset: at most "
        f"{EVALUATION_WINDOWS} windows of --seqlen tokens. Takes the memory of the whole model.",
        rich_help_panel=RESULT,
    ),
]
Summary = Annotated[
    Path | None,
    typer.Option(
        "--json",
        help="Write a summary there as well: verdict, sparsity, perplexity.",
        rich_help_panel=RESULT,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Show what would be pruned, estimate memory and time, no more.",
        rich_help_panel=RUN,
    ),
]
StartOver = Annotated[
    bool,
    typer.Option(
        "--start-over",
        help="Discard the progress of an unfinished run in OUT.partial.",
        rich_help_panel=RUN,
    ),
]
PatternText = Annotated[
    str | None,
    typer.Option(
        help="unstructured:0.5, 2:4, structured:0.3, 2:4+outliers:0.1, ...", rich_help_panel=WHAT
    ),
]
NCountsZeros = Annotated[
    bool,
    typer.Option(
        "--n-counts-zeros",
        help="n of n:m counts zeros: needed for n != m/2.",
        rich_help_panel=WHAT,
    ),
]
Recipe = Annotated[
    Path | None,
    typer.Option(
        help="TOML file with patterns by layer; what it sets goes before other options.",
        rich_help_panel=WHAT,
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GLOB",
        help="Prune layers with such names only. Repeatable.",
        rich_help_panel=WHAT,
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GLOB",
        help="Leave layers with such names dense. Repeatable.",
        rich_help_panel=WHAT,
    ),
]
AllowPartial = Annotated[
    bool,
    typer.Option(
        "--allow-partial",
        help="Accept that weights were left alone which nobody excluded: no exit status 4.",
        rich_help_panel=WHAT,
    ),
]
Method = Annotated[
    str, typer.Option(help="thanos, magnitude, wanda or sparsegpt.", rich_help_panel=HOW)
]
BlockSize = Annotated[int, typer.Option(help="Columns in a block, B.", rich_help_panel=HOW)]
Damping = Annotated[
    float, typer.Option(help="Share of mean(diag G) on the diagonal.", rich_help_panel=HOW)
]
Refit = Annotated[
    int, typer.Option(help="Steps to refit the kept weights afterwards.", rich_help_panel=HOW)
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
        rich_help_panel=HOW,
    ),
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
    """The rules that the options of a command make together.

    options   method, block_size, damping and refit, where the recipe does not say them itself
    ablation  switches as KEY=VALUE, where the recipe does not say them itself

    Raises BadParameter or ValueError for options that are wrong or contradict each other.
    """
    switches = _read_switches(ablation or [])
    if recipe:
        given = {"pattern": pattern} if pattern else {}
        rules = read_recipe(recipe, {**options, **switches, **given})
    elif pattern is None:
        raise typer.BadParameter(
            "give a pattern such as 2:4, or a --recipe", param_hint="--pattern"
        )
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
    """The methods, patterns and changed switches of the rules, for people."""
    choices = _prunings(rules)
    methods = dict.fromkeys(choice.method for choice in choices)
    patterns = dict.fromkeys(explained(choice.pattern) for choice in choices)
    words = (switch_words(choice.ablation.changed()) for choice in choices)
    return ", ".join([*methods, *patterns, *dict.fromkeys(chain.from_iterable(words))])


def _read_switches(texts: list[str]) -> dict[str, Any]:
    """Switches by name. Raises BadParameter for one that does not exist or is given twice."""
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
