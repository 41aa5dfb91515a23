"""What a study is: a named list of runs, short enough to be measured in one sitting."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verification.benchmarks.environment import environment
from verification.benchmarks.studies.engine import JOBS, Progress, measure
from verification.benchmarks.studies.plan import Run, dense_runs
from verification.benchmarks.studies.resources import Resources

Results = dict[str, Any]
Prepare = Callable[[Resources, Callable[[str, int, int], None], str], Results]
RESULTS = "results.json"


@dataclass(frozen=True)
class Study:
    """A named part of a profile.

    question  that it is measured for
    minutes   that it takes on two cores, about
    runs      pruned models; the dense ones that they are compared with come by themselves
    prepare   makes what the runs need, and returns what results.json says of that
    """

    name: str
    profile: str
    question: str
    minutes: float
    runs: tuple[Run, ...]
    prepare: Prepare | None = None

    @property
    def total(self) -> int:
        """Number of runs, those of dense models included."""
        return len(dense_runs(self.runs)) + len(self.runs)

    def measure(
        self,
        work: Path,
        progress: Progress,
        command: str,
        resources: Resources,
        prepared: Results,
        jobs: int = JOBS,
    ) -> Results:
        """What results.json holds; records in `work` that are finished are not made again.

        `prepare` must have been called with the same resources; its result is `prepared`.
        """
        start = time.perf_counter()
        records = measure(self.runs, work, progress, resources, jobs)
        return {
            "study": self.name,
            "profile": self.profile,
            "command": command,
            **environment(resources.device),
            "jobs": jobs,
            "wall_seconds": time.perf_counter() - start,
            **prepared,
            "runs": records,
        }


def verified(results: Results) -> bool:
    """Whether every layer of every pruned model is certified."""
    return all(record["verified"] for record in results["runs"] if "layers" in record)
