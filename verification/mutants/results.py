"""The results file of mutants; a second run reuses it."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from verification.benchmarks.environment import commit, machine
from verification.benchmarks.results import write_results
from verification.mutants.equivalent import known_survivor
from verification.mutants.mutant import Mutant
from verification.mutants.running import Outcome
from verification.mutants.scope import NOT_JUDGED

ROOT = Path(__file__).parents[2]
# Files that decide the fate of a mutant; results of other versions of them are discarded.
DECIDING = (
    "reference/*.py",
    "verification/catalogue.py",
    "verification/processes.py",
    "verification/thresholds.py",
    "verification/certificate/*.py",
    "verification/conformance/*.py",
    "verification/vectors/*.json",
    "verification/vectors/inputs/*",
    "verification/vectors/expected/*",
    *(f"verification/mutants/{name}.py"
      for name in ("sites", "tables", "mutators", "mutant", "package", "trials", "running")),
)  # fmt: skip


def fingerprint(root: Path = ROOT) -> str:
    """A hash of the files that DECIDING names: reference, judge, vectors and mutators."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in DECIDING for path in root.glob(pattern)}):
        if path.is_file():
            digest.update(path.relative_to(root).as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


class MutantResults:
    """The fate of mutants, in memory and in a file."""

    def __init__(self, path: Path, command: str, source: str, fresh: bool = False) -> None:
        """Read the results of the same source; ValueError if the file is not a results file."""
        self._path, self._command, self._source = path, command, source
        self._origin = {"commit": commit(), "machine": machine()}
        self._known: dict[str, dict[str, Any]] = {}
        if path.exists() and not fresh:
            found = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(found, dict) or "source" not in found:
                raise ValueError(f"out must be a results file of mutants or new, got {path}")
            if found["source"] == source:
                self._known = found["mutants"]

    def __contains__(self, mutant: Mutant) -> bool:
        return mutant.id in self._known

    def add(self, mutant: Mutant, outcome: Outcome) -> None:
        """Record the fate of a mutant and write the file."""
        entry: dict[str, Any] = {"status": outcome.status}
        if outcome.trial:
            entry["trial"] = outcome.trial
        if outcome.checks:
            entry["checks"] = list(outcome.checks)
        if outcome.status != "killed":
            entry |= {
                "function": mutant.function,
                "before": mutant.before,
                "after": mutant.after,
                **_explained(mutant),
            }
        self._known[mutant.id] = entry
        self._write()

    def explain_again(self, mutants: Iterable[Mutant]) -> None:
        """Update explanations that have changed since a mutant was judged."""
        for mutant in mutants:
            entry = self._known.get(mutant.id)
            if entry and entry["status"] == "survived":
                entry.update(_explained(mutant))
        self._write()

    def status(self, mutant: Mutant) -> str:
        """The status of a recorded mutant."""
        return str(self._known[mutant.id]["status"])

    def unexplained(self) -> dict[str, dict[str, Any]]:
        """Survivors without a reason, and mutants on which the judge itself raised."""
        return {
            name: entry
            for name, entry in sorted(self._known.items(), key=_place)
            if entry["status"] == "crashed"
            or (entry["status"] == "survived" and not entry["explanation"])
        }

    def counts(self) -> dict[str, int]:
        """Number of mutants by status, and of survivors by kind of reason."""
        statuses = Counter(entry["status"] for entry in self._known.values())
        left = (e for e in self._known.values() if e["status"] in ("survived", "crashed"))
        whys = Counter(entry["why"] or "unexplained" for entry in left)
        return {"mutants": len(self._known), **dict(sorted(statuses.items())),
                **{f"survived: {why}": n for why, n in sorted(whys.items())}}  # fmt: skip

    def killed_by(self) -> dict[str, int]:
        """Number of killed mutants by failed check."""
        checks = Counter(
            check
            for entry in self._known.values()
            if entry["status"] == "killed"
            for check in entry["checks"]
        )
        return dict(checks.most_common())

    def _write(self) -> None:
        content = {
            "command": self._command,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            **self._origin,
            "source": self._source,
            "counts": self.counts(),
            "killed_by": self.killed_by(),
            "not_judged": {".".join(place): why for place, why in NOT_JUDGED.items()},
            "unexplained": list(self.unexplained()),
            "mutants": dict(sorted(self._known.items(), key=_place)),
        }
        write_results(self._path, content, indent=1)


def _explained(mutant: Mutant) -> dict[str, str]:
    known = known_survivor(mutant)
    return {"why": known.why if known else "", "explanation": known.reason if known else ""}


def _place(item: tuple[str, Any]) -> tuple[str, int, int, str]:
    """Sort key of ids: module, line and column."""
    module, line, column, kind = item[0].split(":")
    return module, int(line), int(column), kind
