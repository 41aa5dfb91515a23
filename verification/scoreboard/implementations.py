"""Reads the list of public implementations, implementations.toml."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verification.conformance.capabilities import METHODS

LIST = Path(__file__).with_name("implementations.toml")


@dataclass(frozen=True)
class Environment:
    """A Python environment in which adapters run.

    name          folder in FOLDER/environments
    requirements  what pip installs there
    """

    name: str
    requirements: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """Where the code of an implementation comes from: a repository, or a package of an index.

    name         its folder in FOLDER, if it is a repository
    repository   address; empty if it is a package
    commit       that is judged
    path         folder of the repository that is imported from
    package      name on the package index; empty if it is a repository
    version      that is judged
    """

    name: str
    environment: Environment
    repository: str = ""
    commit: str = ""
    path: str = ""
    package: str = ""
    version: str = ""

    @property
    def where(self) -> str:
        """Address of the repository or the package."""
        return self.repository or f"https://pypi.org/project/{self.package}/"

    @property
    def what(self) -> str:
        """The first digits of the commit, or the version."""
        return self.commit[:12] or self.version


@dataclass(frozen=True)
class Listed:
    """One row of the scoreboard.

    name      of its badge
    title     for people, in Markdown
    methods   that it is judged for
    function  `module:function` of the adapter
    source    None for implementations of this project
    checks    names of the checks that count; all if empty
    label     what a row with `checks` is judged for, in words
    """

    name: str
    title: str
    methods: tuple[str, ...]
    function: str
    source: Source | None = None
    checks: tuple[str, ...] = ()
    label: str = ""

    @property
    def judged_for(self) -> str:
        """What the row is judged for: its methods, or what is judged of one."""
        return self.label or ", ".join(self.methods)


def read_list(path: Path = LIST) -> tuple[Listed, ...]:
    """All rows. Raises ValueError that names what is wrong in the file."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        environments = {
            name: Environment(name, tuple(requirements))
            for name, requirements in content["environments"].items()
        }
        sources = {
            name: _source(name, given, environments)
            for name, given in content.get("sources", {}).items()
        }
        rows = tuple(_row(given, sources) for given in content["implementations"])
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name}: {error!r}") from error
    if len({row.name for row in rows}) != len(rows):
        raise ValueError(f"{path.name}: two implementations have the same name")
    return rows


def _source(name: str, given: Mapping[str, Any], environments: Mapping[str, Environment]) -> Source:
    source = Source(name, **{**given, "environment": environments[given["environment"]]})
    if bool(source.repository) == bool(source.package):
        raise ValueError(f"{name} must be either a repository or a package")
    if not source.what:
        raise ValueError(f"{name} needs the commit of its repository, or its package's version")
    return source


def _row(given: Mapping[str, Any], sources: Mapping[str, Source]) -> Listed:
    changes = {key: tuple(given[key]) for key in ("methods", "checks") if key in given}
    source = sources[given["source"]] if "source" in given else None
    row = Listed(**{**given, **changes, "source": source})
    if unknown := set(row.methods) - set(METHODS):
        known = ", ".join(METHODS)
        raise ValueError(f"{row.name}: methods may hold {known}, got {unknown.pop()!r}")
    return row
