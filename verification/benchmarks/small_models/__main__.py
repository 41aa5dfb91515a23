"""`python -m verification.benchmarks.small_models`: train the small models, with a record each.

Exit status 0 means that every model is well below a unigram model's perplexity.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from thanos_torch.cli.display import progress_bar, say, table
from thanos_torch.models import DEFAULT_DATASET
from verification.benchmarks.small_models.corpus import read_texts
from verification.benchmarks.small_models.families import FAMILIES
from verification.benchmarks.small_models.run import WELL_BELOW, train_family
from verification.benchmarks.small_models.training import MOST_MINUTES, Schedule

HEADINGS = ["family", "parameters", "steps", "minutes", "perplexity", "unigram", "ratio"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train; returns the exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _options(given)
    torch.set_num_threads(options.threads)
    families = FAMILIES if options.family == "all" else (options.family,)
    schedule = Schedule(steps=options.steps, minutes=options.minutes, seed=options.seed)
    texts = read_texts(options.data or [DEFAULT_DATASET], options.held_out)
    command = " ".join(["python -m verification.benchmarks.small_models", *given])
    records = []
    for family in families:
        with progress_bar(family) as show:
            out = options.out / family
            records.append(train_family(family, texts, schedule, out, command, show))
    table(f"Trained, held out: {texts.held_out}", HEADINGS, [_row(record) for record in records])
    trained = all(record["well_below_unigram"] for record in records)
    if not trained:
        say(f"Not every model is at {WELL_BELOW} of a unigram model's perplexity: train longer.")
    say(f"Checkpoints: {', '.join(str(options.out / family) for family in families)}")
    return 0 if trained else 1


def _row(record: dict[str, Any]) -> list[str]:
    return [
        record["asked"]["family"],
        f"{record['parameters']:,}",
        str(record["steps"]),
        f"{record['seconds'] / 60:.1f}",
        f"{record['perplexity']:.1f}",
        f"{record['unigram_perplexity']:.1f}",
        f"{record['ratio']:.3f}",
    ]


def _options(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m verification.benchmarks.small_models")
    parser.add_argument("--family", choices=[*FAMILIES, "all"], default="all")
    parser.add_argument(
        "--data",
        action="append",
        metavar="TEXT",
        help="text to learn from, as for `thanos prune --dataset`; several are joined",
    )
    parser.add_argument(
        "--held-out",
        metavar="TEXT",
        help="text to measure on; default: the evaluation part of the first --data",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=Schedule.minutes,
        help=f"stop a family's training then, done or not; at most {MOST_MINUTES}, the default",
    )
    parser.add_argument("--steps", type=int, default=Schedule.steps, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="folder for a folder per family")
    return parser.parse_args(given)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError) as error:
        sys.exit(f"small_models: {error}")
