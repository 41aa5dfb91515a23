"""The end of `thanos prune`: perplexity before and after, what to do next, the `--json` file."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thanos_torch.checkpoint.load import config_of
from thanos_torch.checkpoint.model_class import model_class
from thanos_torch.checkpoint.record import recorded
from thanos_torch.cli.display import ExitStatus, say, table
from thanos_torch.cli.evaluate import measure_model
from thanos_torch.cli.options import EVALUATION_WINDOWS
from thanos_torch.evaluation.meaning import refuse_other_class
from thanos_torch.models import (
    DEFAULT_DATASET,
    RECORD,
    Perplexity,
    Windows,
    evaluation_windows,
    load_model,
)

# Options of the text that `thanos eval` lacks, or that it sets by itself.
DRAWN = ("nsamples", "seed")
DEFAULTS = {"dataset": DEFAULT_DATASET, "seqlen": 512}


@dataclass(frozen=True)
class PerplexityComparison:
    """How `--eval` measures perplexity before and after.

    text  the options of `prune` about the text, by name; device to trust_remote_code: as of `prune`
    """

    text: Mapping[str, Any]
    device: str
    trust_remote_code: bool

    def check(self, model: str, tokenizer: Any) -> None:
        """Raise ValueError, before the work, for a model or a text that cannot be measured."""
        refuse_other_class(config_of(model, trust_remote_code=self.trust_remote_code))
        self.windows(tokenizer)

    def windows(self, tokenizer: Any) -> Windows:
        """The windows for both models. Raises ValueError if the text has too few tokens."""
        return evaluation_windows(tokenizer, **_undrawn(self.text), limit=EVALUATION_WINDOWS)

    def measured(
        self, model: str, note: str, windows: Windows | None
    ) -> tuple[Perplexity, Windows]:
        """The perplexity of a model, which is in memory for that time alone."""
        loaded = load_model(model, trust_remote_code=self.trust_remote_code)
        windows = windows or self.windows(loaded.tokenizer)
        return measure_model(loaded, windows, self.device, note), windows


def compare_models(how: PerplexityComparison, dense: str, pruned: Path) -> dict[str, Any] | None:
    """Measure and show perplexity before and after; JSON-able, or None if that is impossible."""
    try:
        before, windows = how.measured(dense, "before", None)
        after, _ = how.measured(str(pruned), "after", windows)
    except ValueError as error:  # the checkpoint is written all the same
        say(f"Perplexity could not be measured: {error}.")
        return None
    sizes = (f"{before.windows:,}", f"{before.seqlen:,}")
    table(
        "Perplexity, lower is better",
        ["text", "windows", "tokens each", "before", "after"],
        [[how.text["dataset"], *sizes, f"{before.perplexity:,.2f}", f"{after.perplexity:,.2f}"]],
    )
    if Path(how.text["dataset"]).is_file():
        say("The file was calibrated on too: on other texts the loss may be larger.")
    return {
        "text": windows.provenance(),
        "before": before.as_dict(),
        "after": after.as_dict(),
    }


def summary(
    record: dict[str, Any], out: Path, status: ExitStatus, measured: dict[str, Any] | None
) -> dict[str, Any]:
    """The content of the `--json` file; `measured` is that of `compare_models`."""
    names = ("sparsity", "block_sparsity", "left_alone_share", "relative_error", "seconds")
    return {
        "out": str(out),
        "record": str(out / RECORD),
        "exit_status": int(status),
        "verdict": recorded(record),
        **{name: record[name] for name in names},
        "perplexity": measured,
    }


def say_next(out: Path, how: PerplexityComparison) -> None:
    """Print three commands: measure the result, look at its zeros, load it in Python."""
    folder = f"./{out}" if str(out).startswith("-") else str(out)  # else it would be an option
    words = ["thanos", "eval", folder]
    for name, value in _undrawn(how.text).items():
        if value != DEFAULTS.get(name):
            words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    words += ["--trust-remote-code"] * how.trust_remote_code
    trusted = ", trust_remote_code=True" if how.trust_remote_code else ""
    config = config_of(str(out), trust_remote_code=how.trust_remote_code)
    loader = model_class(config, how.trust_remote_code).__name__
    say(f"Measure it:      {shlex.join(words)}")
    say(f"See its zeros:   {shlex.join(['thanos', 'inspect', folder])}")
    say(
        f"Load in Python:  from transformers import {loader}; "
        f"model = {loader}.from_pretrained({folder!r}{trusted})"
    )


def _undrawn(text: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in text.items() if name not in DRAWN}
