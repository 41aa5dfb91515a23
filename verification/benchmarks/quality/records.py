"""Finished runs on the disk, each with what it was made with; one made otherwise is made again."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import reference
import thanos_torch
import verification
from thanos_torch.runtime.files import write_json
from verification.benchmarks.environment import content_of, environment
from verification.benchmarks.quality.plan import Run


@dataclass(frozen=True)
class Resources:
    """What runs are measured with.

    data    folder with a folder for some data sets, such as `c4`; others come from a hub
    models  folder with a checkpoint for some models; others come from a hub or a package
    device  where calibration runs and models are evaluated
    solver  where layers are pruned
    """

    data: Path | None = None
    models: Path | None = None
    device: str = "cpu"
    solver: str = "cpu"

    def dataset(self, name: str) -> str:
        """What `read_text` finds the data set by."""
        return _inside(self.data, name)

    def model(self, name: str) -> str:
        """What `load_model` finds the model by."""
        return _inside(self.models, name)

    def fingerprint(self, model: str, datasets: Iterable[str]) -> dict[str, str]:
        """The devices, and SHA-256 of the model and texts that are read from a folder."""
        found = {name: self.dataset(name) for name in datasets}
        return {
            "device": self.device,
            "solver": self.solver,
            f"model {model}": _content(self.model(model)),
            **{f"text {name}": _content(where) for name, where in found.items()},
        }

    def as_dict(self) -> dict[str, str | None]:
        """JSON-able; the argument of `from_dict`."""
        return {
            "data": str(self.data) if self.data else None,
            "models": str(self.models) if self.models else None,
            "device": self.device,
            "solver": self.solver,
        }

    @classmethod
    def from_dict(cls, told: dict[str, str | None]) -> "Resources":
        """What `as_dict` made, after a journey through JSON."""
        data, models = told["data"], told["models"]
        return cls(
            Path(data) if data else None,
            Path(models) if models else None,
            str(told["device"]),
            str(told["solver"]),
        )


def _inside(folder: Path | None, name: str) -> str:
    return str(folder / name) if folder and (folder / name).is_dir() else name


@cache
def _content(found: str) -> str:
    """SHA-256 of the files of a folder, or of a file; what else was named, by its name."""
    path = Path(found)
    if not path.exists():
        return found
    return content_of(path.iterdir() if path.is_dir() else [path])


ORIGIN = "origin_of_record"


class RunRecords:
    """The records of a study, a file a run, in the folder `folder`.

    A record counts as finished if the code, the packages, the texts, the model and the device are
    those of now.
    """

    def __init__(self, folder: Path, resources: Resources) -> None:
        self.folder, self._resources = folder, resources
        folder.mkdir(parents=True, exist_ok=True)

    def finished(self, run: Run) -> bool:
        """Whether there is a record of this run that was made with what there is now."""
        try:
            record = json.loads(self._file(run).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return bool(record[ORIGIN] == origin(run, self._resources))

    def write(self, run: Run, record: dict[str, Any]) -> None:
        """Keep the record of a run, which says itself what it was made with."""
        write_json(self._file(run), record)

    def read(self, run: Run) -> dict[str, Any]:
        """What a results file says of a run. Raises RuntimeError if it was not made as it says."""
        if not self.finished(run):
            raise RuntimeError(f"code, texts or model changed while {run.key} ran: start again")
        record: dict[str, Any] = json.loads(self._file(run).read_text(encoding="utf-8"))
        return {name: value for name, value in record.items() if name != ORIGIN}

    def grams(self, dense: Run) -> Path:
        """The folder with a dense model's Gram matrices, whole or not there."""
        return self.folder / f"grams-{dense.key}"

    def _file(self, run: Run) -> Path:
        return self.folder / f"{run.key}.json"


def origin(run: Run, resources: Resources) -> dict[str, Any]:
    """What decides the numbers of a run, but for the run itself."""
    made = _environment()
    return {
        "code": code_fingerprint(),
        "versions": made["versions"],
        "python": made["python"],
        **({"harness": _harness()} if run.evaluation.items != 0 else {}),
        **resources.fingerprint(run.model, (run.calibration.dataset, run.evaluation.dataset)),
    }


def code_fingerprint() -> str:
    """SHA-256 of the code that decides what a run finds; commands and pages may change."""
    pruning, checks, counts = (
        Path(str(module.__file__)).parent for module in (thanos_torch, verification, reference)
    )
    shown = pruning / "cli"
    files = [file for file in pruning.rglob("*.py") if shown not in file.parents]
    files += [*(checks / "certificate").glob("*.py"), checks / "thresholds.py"]
    files += [checks / "benchmarks" / "quality" / name for name in ("worker.py", "plan.py")]
    return content_of([*files, counts / "patterns.py"])


@cache
def _harness() -> dict[str, str]:
    """What decides the accuracy in zero-shot tasks besides."""
    return {name: version(name) for name in ("lm_eval", "datasets", "tokenizers")}


@cache
def _environment() -> dict[str, Any]:
    return environment()
