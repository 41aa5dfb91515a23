"""Finished runs on the disk, each with what it was made with; one made otherwise is made again."""

import json
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import reference
import thanos_torch
import verification
from thanos_torch.models.durable import write_json
from verification.benchmarks.content import content_of
from verification.benchmarks.environment import environment
from verification.benchmarks.studies.plan import Run
from verification.benchmarks.studies.resources import Resources

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
    files = [*pruning.glob("*.py"), counts / "patterns.py", checks / "thresholds.py"]
    folders = (pruning / "models", pruning / "evaluation", checks / "certificate")
    files += [file for folder in folders for file in folder.glob("*.py")]
    files += [checks / "benchmarks" / "studies" / name for name in ("worker.py", "plan.py")]
    return content_of(files)


@cache
def _harness() -> dict[str, str]:
    """What decides the accuracy in zero-shot tasks besides."""
    return {name: version(name) for name in ("lm_eval", "datasets", "tokenizers")}


@cache
def _environment() -> dict[str, Any]:
    return environment()
