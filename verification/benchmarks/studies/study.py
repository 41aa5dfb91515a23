"""What a study is: a named list of runs, short enough to be measured in one sitting."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verification.benchmarks.environment import environment
from verification.benchmarks.studies.engine import JOBS, Progress, measure
from verification.benchmarks.studies.plan import Run, dense_runs

Results = dict[str, Any]
RESULTS = "results.json"


@dataclass(frozen=True)
class Study:
    """A named part of a profile.

    question  that it is measured for
    minutes   that it takes on two cores, about
    runs      pruned models; the dense ones that they are compared with come by themselves
    """

    name: str
    profile: str
    question: str
    minutes: int
    runs: tuple[Run, ...]

    @property
    def total(self) -> int:
        """Number of runs, those of dense models included."""
        return len(dense_runs(self.runs)) + len(self.runs)

    def measure(self, work: Path, progress: Progress, command: str) -> Results:
        """What results.json holds; records in `work` that are finished are not made again."""
        start = time.perf_counter()
        records = measure(self.runs, work, progress)
        return {
            "study": self.name,
            "profile": self.profile,
            "command": command,
            **environment(),
            "jobs": JOBS,
            "wall_seconds": time.perf_counter() - start,
            "runs": records,
        }


def verified(results: Results) -> bool:
    """Whether every layer of every pruned model is certified."""
    return all(record["verified"] for record in results["runs"] if "layers" in record)
