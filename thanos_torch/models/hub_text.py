"""Texts of a model hub's data sets, through the packages `datasets` and `huggingface_hub`."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

# Alternatives in order of preference, of splits named in any data set.
_SPLITS = {"calibration": ("train",), "evaluation": ("test", "validation")}
_KNOWN = {"wikitext2": "Salesforce/wikitext:wikitext-2-raw-v1", "c4": "allenai/c4:en"}
HUB_DATASETS = tuple(_KNOWN)
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
# Where reading stops: more than all of WikiText-2 has (10.9 million), and a part of C4.
MOST_CHARACTERS = 12_000_000
SECONDS = 10.0


@dataclass(frozen=True)
class HubText:
    """Rows of a split, and what a report should say of it: path, split, commit, how much of it."""

    rows: list[str]
    origin: dict[str, Any]


def is_hub_name(dataset: str) -> bool:
    """Whether that could be a hub's data set: `wikitext2`, `c4`, owner/name, owner/name:config."""
    return dataset in _KNOWN or _HUB_NAME.fullmatch(dataset) is not None


def hub_text(dataset: str, part: str) -> HubText:
    """The calibration or evaluation part of a hub's data set, its column `text`.

    Raises ValueError if it is out of reach, or has no such split or column.
    """
    path, _, configuration = _KNOWN.get(dataset, dataset).partition(":")
    revision = hub_revision(path)
    from datasets import get_dataset_split_names, load_dataset

    where: dict[str, Any] = {"path": path, "revision": revision}
    try:
        splits = get_dataset_split_names(config_name=configuration or None, **where)
        split = _choose(dataset, part, splits)
        rows = load_dataset(name=configuration or None, split=split, streaming=True, **where)
        texts, complete = _read(dataset, rows)
    except OSError as error:
        raise _out_of_reach(path, error) from error
    origin = {
        "path": path,
        "configuration": configuration or None,
        "split": split,
        "revision": revision,
        "read": "all" if complete else f"the first {MOST_CHARACTERS:,} characters",
    }
    return HubText(texts, origin)


def hub_revision(path: str) -> str:
    """The commit of a hub's data set at this moment.

    Asked for first: it answers at once whether there is a hub and such a data set, where a loader
    tries again for half a minute. Raises ValueError if not.
    """
    try:
        import datasets  # noqa: F401
        from huggingface_hub import HfApi
    except ImportError:
        raise ValueError(
            f"dataset {path} comes from a hub through the package `datasets`, which is not "
            "installed: pip install 'thanos-pruning[data]', or give a local file or folder"
        ) from None
    try:
        return str(HfApi().dataset_info(path, timeout=SECONDS).sha)
    except Exception as error:  # of several packages: HTTP client, hub client, offline mode
        raise _out_of_reach(path, error) from error


def _choose(dataset: str, part: str, splits: Iterable[str]) -> str:
    for split in _SPLITS[part]:
        if split in splits:
            return split
    raise ValueError(
        f"dataset {dataset} has no split for {part}: none of {', '.join(_SPLITS[part])} in "
        f"{', '.join(splits)}"
    )


def _read(dataset: str, rows: Iterable[dict[str, Any]]) -> tuple[list[str], bool]:
    texts: list[str] = []
    characters = 0
    for row in rows:
        if not isinstance(row.get("text"), str):
            raise ValueError(f"dataset {dataset} has no column text, but {', '.join(row)}")
        texts.append(row["text"])
        characters += len(row["text"])
        if characters >= MOST_CHARACTERS:
            return texts, False
    return texts, True


def _out_of_reach(path: str, error: Exception) -> ValueError:
    reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
    return ValueError(
        f"dataset {path} could not be loaded from the hub: {reason[0]}; give a local file or "
        "folder instead"
    )
