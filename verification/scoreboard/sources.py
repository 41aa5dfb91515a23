"""What a folder holds of sources and environments, and the commands that get what it lacks."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verification.scoreboard.implementations import Environment, Listed, Source

PINNED = re.compile(r"([A-Za-z0-9._-]+)==(.+)")
# Asks a Python for its own version and those of packages; None where one is not installed.
ASK = """
import importlib.metadata as metadata, json, platform, sys
def version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
found = {name: version(name) for name in sys.argv[1:]}
print(json.dumps({"python": platform.python_version(), **found}))
"""


@dataclass(frozen=True)
class Lack:
    """Something that was not found, and the commands that get it."""

    what: str
    commands: tuple[str, ...]


class Folder:
    """The user's folder of sources and environments.

    Raises ValueError if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise ValueError(f"folder must exist, got {path}")
        self.path = path.absolute()
        self._versions: dict[str, dict[str, str | None]] = {}

    def python(self, environment: Environment) -> Path:
        """The interpreter of an environment."""
        return self.path / "environments" / environment.name / "bin" / "python"

    def code(self, source: Source) -> Path:
        """The folder of a repository from which modules are imported."""
        return self.path / source.name / source.path

    def lacks(self, rows: Iterable[Listed]) -> list[Lack]:
        """All that is missing for some rows, each once."""
        found: dict[str, Lack] = {}
        for row in rows:
            if row.source:
                found.update({lack.what: lack for lack in self._lacks(row.source)})
        return list(found.values())

    def versions(self, environment: Environment) -> dict[str, str | None]:
        """The versions of Python and of what an environment requires, as they are there.

        Empty if the environment does not exist.
        """
        if environment.name not in self._versions:
            self._versions[environment.name] = self._asked(environment)
        return self._versions[environment.name]

    def origin(self, source: Source) -> dict[str, Any]:
        """What is recorded of a source; `checked` says whether git confirmed the commit."""
        if source.package:
            return {"package": source.package, "version": source.version}
        checked = (self.path / source.name / ".git").exists()
        return {"repository": source.repository, "commit": source.commit, "checked": checked}

    def _lacks(self, source: Source) -> Iterator[Lack]:
        if source.repository:
            yield from self._lacks_repository(source)
        yield from self._lacks_environment(source.environment)

    def _lacks_repository(self, source: Source) -> Iterator[Lack]:
        place = self.path / source.name
        checkout = f"git -C {_quoted(place)} checkout --quiet {source.commit}"
        if not self.code(source).is_dir():
            clone = f"git clone --quiet {source.repository} {_quoted(place)}"
            yield Lack(f"{source.name}: no folder {self.code(source)}", (clone, checkout))
            return
        if not (place / ".git").exists():
            return
        head = _git(place, "rev-parse", "HEAD")
        if head != source.commit:
            yield Lack(f"{source.name}: it is at {head[:12] or 'no commit'}, not at {source.what}",
                       (f"git -C {_quoted(place)} fetch --quiet", checkout))  # fmt: skip
        elif _git(place, "status", "--porcelain", "--untracked-files=no"):
            yield Lack(f"{source.name}: its files were changed",
                       (f"git -C {_quoted(place)} stash",))  # fmt: skip

    def _lacks_environment(self, environment: Environment) -> Iterator[Lack]:
        versions, python = self.versions(environment), self.python(environment)
        pip = shlex.join([str(python), "-m", "pip", "install", *environment.requirements])
        if not versions:
            make = f"{shlex.quote(sys.executable)} -m venv {_quoted(python.parents[1])}"
            yield Lack(f"environment {environment.name}: no {python}", (make, pip))
            return
        for requirement in environment.requirements:
            name, wanted = _pinned(requirement)
            if versions[name] is None or not _is(versions[name], wanted):
                yield Lack(f"environment {environment.name}: it has {name} {versions[name]}, "
                           f"not {wanted or 'any'}", (pip,))  # fmt: skip

    def _asked(self, environment: Environment) -> dict[str, str | None]:
        if not self.python(environment).exists():
            return {}
        names = [_pinned(requirement)[0] for requirement in environment.requirements]
        command = [str(self.python(environment)), "-I", "-c", ASK, *names]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            return {}
        found: dict[str, str | None] = json.loads(done.stdout)
        return found


def _pinned(requirement: str) -> tuple[str, str]:
    """Name and exact version of a requirement; the version is empty if any will do."""
    found = PINNED.fullmatch(requirement)
    return (found[1], found[2]) if found else (requirement, "")


def _is(found: str | None, wanted: str) -> bool:
    """Whether a version is the wanted one; a local part such as +cpu does not count."""
    return not wanted or (found or "").partition("+")[0] == wanted


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return done.stdout.strip()


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
