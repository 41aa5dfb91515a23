"""Calibration and evaluation text, from local files or a hub."""

import json
import platform
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


def read_rows(path: Path) -> list[str]:
    """The texts of a file: rows of WikiText's .raw, documents of .jsonl and .parquet.

    Any other file is one text. Raises ValueError for what is not as its name says.
    """
    return _READERS.get(path.suffix, _whole)(path)


def _whole(path: Path) -> list[str]:
    try:
        return [path.read_text(encoding="utf-8")]
    except UnicodeDecodeError as error:
        raise ValueError(f"dataset {path} is not UTF-8 text: {error}") from error


def _raw(path: Path) -> list[str]:
    # As papers read WikiText: a row is a line with its end, and a blank line is an empty row.
    lines = _whole(path)[0].splitlines(keepends=True)
    return [line if line.strip() else "" for line in lines]


def _jsonl(path: Path) -> list[str]:
    rows = []
    # Not splitlines: JSON strings may hold other characters that end a line.
    for number, line in enumerate(_whole(path)[0].split("\n"), start=1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)["text"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise _no_text(path, f"line {number}: {error!r}") from error
        if not isinstance(text, str):
            raise _no_text(path, f"line {number}: text is {text!r}")
        rows.append(text)
    return rows


def _parquet(path: Path) -> list[str]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise ValueError(
            f"dataset {path} needs pyarrow: pip install 'thanos-pruning[data]'"
        ) from None
    try:
        rows: list[str] = parquet.read_table(path, columns=["text"]).column("text").to_pylist()
    except (ArrowException, OSError, KeyError) as error:
        raise ValueError(f"dataset {path} must be Parquet with a column text: {error}") from error
    if not all(isinstance(row, str) for row in rows):
        raise ValueError(f"dataset {path} must have strings in its column text, in every row")
    return rows


def _no_text(path: Path, reason: str) -> ValueError:
    return ValueError(f'dataset {path} must hold one {{"text": ...}} a line; {reason}')


_READERS: dict[str, Callable[[Path], list[str]]] = {
    ".raw": _raw,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
TEXT_SUFFIXES = (".txt", *_READERS)


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


DEFAULT_DATASET = "pydoc"
Part = Literal["calibration", "evaluation"]
# WikiText-2's protocol, and ours for all texts. Not a model's end-of-text token: what that is
# differs between a base model and its chat version, so their perplexities would not compare.
SEPARATOR = "\n\n"
# Which file of a data set's folder is for what: the first of these words that one is named by.
_FILE_WORDS: dict[Part, tuple[str, ...]] = {
    "calibration": ("train", "valid"),
    "evaluation": ("test", "valid"),
}


@dataclass(frozen=True)
class Text:
    """One part of a data set, its rows joined by `SEPARATOR`.

    rows    how many there were
    origin  what else a report should say of it, JSON-able
    """

    text: str
    rows: int
    origin: dict[str, Any]


def read_text(dataset: str, part: Part) -> Text:
    """One part of a data set.

    dataset  `pydoc`, the default; a file (.txt, .raw as WikiText has it, .parquet with a column
             "text", or .jsonl with a "text" a line), which serves for both parts; a folder of
             such files named train, valid or test; or a hub's data set: `wikitext2`, `c4`,
             owner/name or owner/name:configuration

    Raises ValueError if there is no such text.
    """
    if dataset == DEFAULT_DATASET:
        # The default text is part of Python and changes with it.
        return _joined(
            pydoc_rows(part), {"dataset": f"pydoc of Python {platform.python_version()}"}
        )
    path = Path(dataset)
    if path.exists():
        file = _file_for(path, part) if path.is_dir() else path
        return _joined(read_rows(file), {"dataset": dataset, "file": file.name})
    if not is_hub_name(dataset):
        raise ValueError(
            f"dataset must be {DEFAULT_DATASET}, {', '.join(HUB_DATASETS)}, a file, a folder, or "
            f"owner/name[:configuration] of a hub, got {dataset!r}"
        )
    found = hub_text(dataset, part)
    return _joined(found.rows, {"dataset": dataset, **found.origin})


def pydoc_rows(part: Part) -> list[str]:
    """English that every Python carries: the topics of its help system, in two halves.

    Topics repeat each other's paragraphs, so every paragraph is used once, whatever its white
    space: the half to evaluate on has none that was calibrated on.
    """
    from pydoc_data.topics import topics

    paragraphs: dict[str, str] = {}
    for _, topic in sorted(topics.items()):
        for paragraph in topic.split("\n\n"):
            paragraphs.setdefault(" ".join(paragraph.split()), paragraph.strip("\n"))
    texts = list(paragraphs.values())
    half = len(texts) // 2
    return texts[:half] if part == "calibration" else texts[half:]


def _joined(rows: list[str], origin: dict[str, Any]) -> Text:
    return Text(SEPARATOR.join(rows), len(rows), origin)


def _file_for(folder: Path, part: Part) -> Path:
    files = sorted(file for file in folder.iterdir() if file.suffix in TEXT_SUFFIXES)
    for word in _FILE_WORDS[part]:
        for file in files:
            if word in file.name:
                return file
    raise ValueError(
        f"dataset folder {folder} has no text for {part}: no {', '.join(TEXT_SUFFIXES)} file named "
        f"{' or '.join(_FILE_WORDS[part])}"
    )
