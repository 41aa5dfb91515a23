"""A run of a study as plain data: method, pattern, calibration, evaluation, model."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from reference.patterns import Ablation

PAPER = Ablation()
# Errors "with dense inputs" of all runs of a study are measured with the same Gram matrices, which
# the dense model gives on this many windows from the calibration part of a data set.
REFERENCE_WINDOWS = 16
REFERENCE_SEED = 1_000_003


@dataclass(frozen=True)
class Calibration:
    """The calibration text and the windows drawn from it."""

    dataset: str
    nsamples: int
    seqlen: int
    seed: int = 0


@dataclass(frozen=True)
class Evaluation:
    """What a pruned model is evaluated on.

    windows    number of windows, evenly spread over the text; None for all
    items      number of items of each zero-shot task, the first ones; 0 for no tasks, None for all
    reference  data set on which the dense model's Gram matrices are collected, with which the
               errors of all runs are measured; None for `dataset`
    """

    dataset: str
    seqlen: int
    windows: int | None
    items: int | None = 0
    reference: str | None = None


@dataclass(frozen=True)
class Run:
    """Settings of one pruned model; the dense model has the method `dense` and no pattern."""

    method: str
    pattern: str
    calibration: Calibration
    evaluation: Evaluation
    model: str
    refit_steps: int = 0
    block_size: int = 128
    damping: float = 0.01
    ablation: Ablation = PAPER

    def what(self) -> dict[str, Any]:
        """Method, pattern, and every other setting that is not the default; JSON values."""
        defaults = {field.name: field.default for field in fields(self)}
        named = {name: getattr(self, name) for name in ("refit_steps", "block_size", "damping")}
        other = {name: value for name, value in named.items() if value != defaults[name]}
        return {
            "method": self.method,
            "pattern": self.pattern,
            **other,
            **self.ablation.changed(),
        }

    def as_dict(self) -> dict[str, Any]:
        """All settings as JSON values; the argument of `from_dict`."""
        return {
            "run": self.what(),
            "model": self.model,
            "calibration": vars(self.calibration),
            "evaluation": vars(self.evaluation),
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Run":
        """Rebuild the run that `as_dict` stored."""
        switches = {field.name for field in fields(Ablation)}
        what = stored["run"]
        return cls(
            calibration=Calibration(**stored["calibration"]),
            evaluation=Evaluation(**stored["evaluation"]),
            model=stored["model"],
            ablation=Ablation(**{name: what[name] for name in switches & what.keys()}),
            **{name: value for name, value in what.items() if name not in switches},
        )

    @property
    def key(self) -> str:
        """A unique name for the run's files."""
        text = json.dumps(self.as_dict(), sort_keys=True)
        readable = f"{self.method}-{self.pattern}".replace(":", "_").replace("+", "-").strip("-")
        return f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"

    def dense(self) -> "Run":
        """The run of the dense model, calibrated with REFERENCE_WINDOWS for its Gram matrices."""
        text = self.evaluation
        dataset = text.reference or text.dataset
        reference = Calibration(dataset, REFERENCE_WINDOWS, text.seqlen, REFERENCE_SEED)
        return Run("dense", "", reference, text, self.model)


def dense_runs(runs: Iterable[Run]) -> list[Run]:
    """The dense runs that `runs` are compared with, each once."""
    return list(dict.fromkeys(run.dense() for run in runs))


def label(what: dict[str, Any]) -> str:
    """The name of a method in tables, with its outlier rows, refit and other settings.

    what  as `Run.what` returns it
    """
    parts = [str(what["method"])]
    if what.get("refit_steps"):
        parts[0] += " + refit"
    outliers = str(what["pattern"]).partition("+outliers:")[2]
    if outliers:
        parts.append(f"outlier rows {outliers}")
    named = {"method", "pattern", "refit_steps"}
    parts += [f"{name} {value}" for name, value in what.items() if name not in named]
    return ", ".join(parts)


def family(what: dict[str, Any]) -> str:
    """The pattern without its outlier rows; runs of one family are compared with each other."""
    return str(what["pattern"]).partition("+")[0]
