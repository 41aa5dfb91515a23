"""Records of finished runs on disk; a record made by other code or from other inputs is stale."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from thanos_torch.runtime.files import write_json
from verification.benchmarks.environment import ROOT, content_of, environment
from verification.benchmarks.quality.plan import Run


@dataclass(frozen=True)
class Resources:
    """Where runs find their data and models, and the devices that they use.

    data    folder with a subfolder per data set, such as `c4`; a data set without a subfolder is
            looked up by its name
    models  folder with a checkpoint per model; a model without one is looked up by its name
    device  device of calibration and evaluation
    solver  device on which layers are pruned
    """

    data: Path | None = None
    models: Path | None = None
    device: str = "cpu"
    solver: str = "cpu"

    def dataset(self, name: str) -> str:
        """The folder of a data set, or its name if there is none; for `read_text`."""
        return _inside(self.data, name)

    def model(self, name: str) -> str:
        """The folder of a model, or its name if there is none; for `load_model`."""
        return _inside(self.models, name)

    def fingerprint(self, model: str, datasets: Iterable[str]) -> dict[str, str]:
        """The devices, and SHA-256 of the model and of the texts that are read from folders."""
        found = {name: self.dataset(name) for name in datasets}
        return {
            "device": self.device,
            "solver": self.solver,
            f"model {model}": _content(self.model(model)),
            **{f"text {name}": _content(where) for name, where in found.items()},
        }

    def as_dict(self) -> dict[str, str | None]:
        """Fields as JSON values; the argument of `from_dict`."""
        return {
            "data": str(self.data) if self.data else None,
            "models": str(self.models) if self.models else None,
            "device": self.device,
            "solver": self.solver,
        }

    @classmethod
    def from_dict(cls, stored: dict[str, str | None]) -> "Resources":
        """Rebuild the resources that `as_dict` stored."""
        data, models = stored["data"], stored["models"]
        return cls(
            Path(data) if data else None,
            Path(models) if models else None,
            str(stored["device"]),
            str(stored["solver"]),
        )


def _inside(folder: Path | None, name: str) -> str:
    return str(folder / name) if folder and (folder / name).is_dir() else name


@cache
def _content(found: str) -> str:
    """SHA-256 of a file or of the files of a folder; any other name stands for itself."""
    path = Path(found)
    if not path.exists():
        return found
    return content_of(path.iterdir() if path.is_dir() else [path])


ORIGIN = "origin_of_record"
# Files that decide the numbers of a run, beside all of thanos_torch but its commands, and the
# certificate.
DECIDING = (
    "reference/patterns.py",
    "verification/thresholds.py",
    "verification/benchmarks/quality/plan.py",
    "verification/benchmarks/quality/worker.py",
)


class RunRecords:
    """The records of runs in a folder, one file per run.

    A run counts as finished if its record was made with the present code, packages, texts, model
    and devices.
    """

    def __init__(self, folder: Path, resources: Resources) -> None:
        self.folder, self.resources = folder, resources
        folder.mkdir(parents=True, exist_ok=True)

    def finished(self, run: Run) -> bool:
        """Whether there is a record of this run whose origin is the present one."""
        try:
            record = json.loads(self._file(run).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return bool(record[ORIGIN] == origin(run, self.resources))

    def write(self, run: Run, record: dict[str, Any]) -> None:
        """Keep the record of a run; its key ORIGIN says what it was made with."""
        write_json(self._file(run), record)

    def read(self, run: Run) -> dict[str, Any]:
        """The record without its origin. Raises RuntimeError if the run is not finished."""
        if not self.finished(run):
            raise RuntimeError(f"code, texts or model changed while {run.key} ran: start again")
        record: dict[str, Any] = json.loads(self._file(run).read_text(encoding="utf-8"))
        return {name: value for name, value in record.items() if name != ORIGIN}

    def grams(self, dense: Run) -> Path:
        """The folder of a dense model's Gram matrices; it exists only when it is complete."""
        return self.folder / f"grams-{dense.key}"

    def _file(self, run: Run) -> Path:
        return self.folder / f"{run.key}.json"


def origin(run: Run, resources: Resources) -> dict[str, Any]:
    """Everything beside the run's own settings that decides its numbers."""
    made = _environment()
    return {
        "code": code_fingerprint(),
        "versions": made["versions"],
        "python": made["python"],
        **({"harness": _harness()} if run.evaluation.items != 0 else {}),
        **resources.fingerprint(run.model, (run.calibration.dataset, run.evaluation.dataset)),
    }


def code_fingerprint(root: Path = ROOT) -> str:
    """SHA-256 of the code that decides the numbers of a run; commands and pages may change.

    root  the folder that holds the three packages
    """
    shown = root / "thanos_torch" / "cli"
    files = [file for file in root.glob("thanos_torch/**/*.py") if shown not in file.parents]
    files += root.glob("verification/certificate/*.py")
    return content_of([*files, *(root / name for name in DECIDING)])


@cache
def _harness() -> dict[str, str]:
    """Packages that decide the accuracy in zero-shot tasks."""
    return {name: version(name) for name in ("lm_eval", "datasets", "tokenizers")}


@cache
def _environment() -> dict[str, Any]:
    return environment()
