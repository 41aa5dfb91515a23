"""What a study runs, as plain data."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from reference.patterns import Ablation

PAPER = Ablation()
# Errors "with dense inputs" of all runs of a study are measured with the same Gram matrices: those
# of the dense model, on windows from the calibration part of a data set.
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
    """What a pruned model is measured on.

    windows    of the text, evenly spread; None for all of it
    items      of each zero-shot task, the first ones; 0 for no tasks, None for all
    reference  the text that gives the dense model's Gram matrices, all runs' yardstick; None for
               the same data set
    """

    dataset: str
    seqlen: int
    windows: int | None
    items: int | None = 0
    reference: str | None = None


@dataclass(frozen=True)
class Run:
    """One pruned model; the dense model has the method `dense` and no pattern."""

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
        """Method and pattern, and what else is not as usual; JSON-able."""
        usual = {field.name: field.default for field in fields(self)}
        named = {name: getattr(self, name) for name in ("refit_steps", "block_size", "damping")}
        other = {name: value for name, value in named.items() if value != usual[name]}
        return {
            "method": self.method,
            "pattern": self.pattern,
            **other,
            **self.ablation.changed(),
        }

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, all of it; the argument of `from_dict`."""
        return {
            "run": self.what(),
            "model": self.model,
            "calibration": vars(self.calibration),
            "evaluation": vars(self.evaluation),
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Run":
        """What `as_dict` made, after a journey through JSON."""
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
        """A name for files, of its own for every run."""
        text = json.dumps(self.as_dict(), sort_keys=True)
        readable = f"{self.method}-{self.pattern}".replace(":", "_").replace("+", "-").strip("-")
        return f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"

    def dense(self) -> "Run":
        """The model before this run; calibrated, for its Gram matrices, as REFERENCE says."""
        text = self.evaluation
        dataset = text.reference or text.dataset
        reference = Calibration(dataset, REFERENCE_WINDOWS, text.seqlen, REFERENCE_SEED)
        return Run("dense", "", reference, text, self.model)


def dense_runs(runs: Iterable[Run]) -> list[Run]:
    """The dense run of every model and text in `runs`, each once."""
    return list(dict.fromkeys(run.dense() for run in runs))


def label(what: dict[str, Any]) -> str:
    """A method for people; outlier rows, a refit or a switch make it another one.

    what  as of `Run.what`
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
    """The pattern without outlier rows: what is compared with each other."""
    return str(what["pattern"]).partition("+")[0]
