"""The name of a model on a hub: `OWNER/NAME`, or `OWNER/NAME@REVISION` for one state of it."""

import re
from dataclasses import dataclass

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class HubModel:
    """A repository of a hub, and its commit, branch or tag; None for the default branch."""

    repository: str
    revision: str | None = None


def hub_model(source: str) -> HubModel | None:
    """The hub model that a source names; None for what cannot be one, such as a path.

    Raises ValueError if nothing follows the @.
    """
    repository, at, revision = source.partition("@")
    if not REPOSITORY.fullmatch(repository):
        return None
    if at and not revision:
        raise ValueError(f"model {source!r} must name a commit, branch or tag after the @")
    return HubModel(repository, revision or None)
