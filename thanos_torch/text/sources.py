"""Read calibration and evaluation text: from Python's own help, from local files, or from a hub."""

import platform
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from thanos_torch.runtime.errors import reason_of
from thanos_torch.text.documents import (
    Column,
    Render,
    content_of,
    json_file,
    json_lines,
    parquet_file,
)

Part = Literal["calibration", "evaluation"]
DEFAULT_DATASET = "pydoc"
# The protocol of WikiText-2, here used for every text. It is no model's end-of-text token, which
# differs between a base model and its chat version: their perplexities would not compare.
SEPARATOR = "\n\n"

# The words by which a file of a folder is chosen for a part, in order of preference.
_FILE_WORDS: dict[Part, tuple[str, ...]] = {
    "calibration": ("train", "valid"),
    "evaluation": ("test", "valid"),
}

# The splits of a hub's data set for a part, in order of preference.
_SPLITS: dict[Part, tuple[str, ...]] = {
    "calibration": ("train",),
    "evaluation": ("test", "validation"),
}
_HUB_DATASETS = {"wikitext2": "Salesforce/wikitext:wikitext-2-raw-v1", "c4": "allenai/c4:en"}
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")  # owner/name or owner/name:configuration
# Reading stops here: more than all of WikiText-2 (10.9 million), and a part of C4.
MOST_CHARACTERS = 12_000_000
SECONDS = 10.0  # until a hub that does not answer counts as out of reach

TOKEN_SUFFIXES = (".npy", ".safetensors")  # files of token ids, in small letters
_PACKED = (".gz", ".zst", ".bz2", ".xz", ".zip", ".tar", ".tgz", ".7z")
# Ends of names that a file has and a hub's data set has not.
_OF_FILES = (".txt", ".raw", ".json", ".jsonl", ".parquet", *TOKEN_SUFFIXES, *_PACKED)
_OF_OTHER_FILES = (".csv", ".tsv", ".npz", ".arrow", ".ndjson")


@dataclass(frozen=True)
class Text:
    """One part of a data set, its rows joined.

    rows    how many rows there were
    origin  where the text comes from, for a report, JSON-able
    """

    text: str
    rows: int
    origin: dict[str, Any]


def read_text(
    dataset: str, part: Part, *, column: str | None = None, chat: Render | None = None
) -> Text:
    """Read one part of a data set.

    dataset  `pydoc`, the default; a file (.txt, .raw as WikiText has it, .parquet, .jsonl with a
             JSON object per line, or .json with such lines or one list of them; all but .parquet
             also as .gz), which serves for both parts; a folder of such files named train, valid or
             test; or a hub's data set: `wikitext2`, `c4`, owner/name or owner/name:configuration
    column   the column of Parquet files and hubs, or the key of JSON objects, that is read; by
             default "text", and "messages" for conversations
    chat     renders conversations, which are then joined without a separator

    Raises ValueError if there is no such text, for a file with another suffix, and for a column or
    conversations of a text that has no columns.
    """
    default = "messages" if chat else "text"
    documents = Column(default if column is None else column, chat)
    path = Path(dataset)
    if dataset == DEFAULT_DATASET:
        _refuse_column(dataset, column, chat)
        # The default text is part of Python and changes with it.
        version = platform.python_version()
        return _joined(_pydoc_rows(part), {"dataset": f"pydoc of Python {version}"})
    if dataset and path.exists():
        file = _file_for(path, part) if path.is_dir() else path
        origin = {"dataset": dataset, "file": file.name}
        if _suffix(file) in _WITHOUT_COLUMNS:
            _refuse_column(str(file), column, chat)
            return _joined(_file_rows(file, documents), origin)
        return _joined(_file_rows(file, documents), origin, documents)
    refuse_missing(dataset)
    return _hub_text(dataset, part, documents)


def refuse_missing(dataset: str) -> None:
    """Raise ValueError if a data set's name is that of a file that is not there, or no name."""
    if dataset in (DEFAULT_DATASET, *_HUB_DATASETS) or (dataset and Path(dataset).exists()):
        return
    of_file = dataset.lower().endswith((*_OF_FILES, *_OF_OTHER_FILES))
    if of_file or dataset.startswith(("/", ".", "~")) or re.search(r"[/\\].*[/\\]|[/\\]$", dataset):
        hint = ", and only a shell knows what ~ is" if dataset.startswith("~") else ""
        raise ValueError(f"dataset {dataset}: there is no such file or folder{hint}")
    if not _HUB_NAME.fullmatch(dataset):
        raise ValueError(
            f"dataset must be {DEFAULT_DATASET}, {', '.join(_HUB_DATASETS)}, a file, a folder, or "
            f"owner/name[:configuration] of a hub, got {dataset!r}"
        )


def _refuse_column(dataset: str, column: str | None, chat: Render | None) -> None:
    """Raise ValueError if a column is asked for of a text that has none."""
    for asked, argument in ((column, "column"), (chat, "chat")):
        if asked is not None:
            raise ValueError(
                f"{argument} is for documents in JSON, Parquet or a hub, and {dataset} is plain"
            )


def _joined(rows: list[str], origin: dict[str, Any], column: Column | None = None) -> Text:
    """The rows as one text; `column` is where they come from, if they have one."""
    chat = column is not None and column.render is not None
    text = ("" if chat else SEPARATOR).join(rows)
    try:
        text.encode()
    except UnicodeEncodeError as error:  # JSON can write down half of a pair of surrogates
        half = ascii(text[error.start])
        raise ValueError(f"dataset {origin['dataset']} holds half a character, {half}") from None
    if column:
        origin = {**origin, "column": column.name}
    return Text(text, len(rows), {**origin, "joined_by": "nothing" if chat else "blank lines"})


def _pydoc_rows(part: Part) -> list[str]:
    """English that every Python carries: the topics of its help system, in two halves.

    Topics repeat each other's paragraphs. Every paragraph is used once, whatever its white space,
    so that none is in both halves.
    """
    from pydoc_data.topics import topics

    paragraphs: dict[str, str] = {}
    for _, topic in sorted(topics.items()):
        for paragraph in topic.split("\n\n"):
            paragraphs.setdefault(" ".join(paragraph.split()), paragraph.strip("\n"))
    texts = list(paragraphs.values())
    half = len(texts) // 2
    return texts[:half] if part == "calibration" else texts[half:]


def _file_for(folder: Path, part: Part) -> Path:
    files = [file for file in folder.iterdir() if file.is_file()]
    # A .json file may also be about the data, so it comes last.
    files.sort(
        key=lambda file: (_suffix(file).startswith(".json."), _suffix(file) == ".json", file)
    )
    named = {
        word: [file for file in files if word in file.name.lower()] for word in _FILE_WORDS[part]
    }
    for found in named.values():
        for file in found:
            if _suffix(file) in _READERS and file.is_file():
                return file
    others = [file.name for found in named.values() for file in found][:5]
    raise ValueError(
        f"dataset folder {folder} has no text for {part}: no {', '.join(_PLAIN)} file named "
        f"{' or '.join(named)}" + (f", but {', '.join(others)}" if others else "")
    )


def _suffix(path: Path) -> str:
    """The suffix that says what a file holds, in small letters: ".txt", ".json.gz"."""
    name = Path(path.name.lower())
    return "".join(name.suffixes[-2:]) if name.suffix == ".gz" else name.suffix


def _file_rows(path: Path, column: Column) -> list[str]:
    """The texts of a file: lines of WikiText's .raw, documents of JSON and .parquet, or all of it.

    Raises ValueError for an unknown suffix, and if the content does not match it.
    """
    suffix = _suffix(path)
    if suffix not in _READERS:
        hint = "unpack it first" if path.suffix.lower() in _PACKED else "name plain text .txt"
        raise ValueError(
            f"dataset {path} must be text ({', '.join(_PLAIN)}; all but .parquet also as .gz) or "
            f"token ids ({', '.join(TOKEN_SUFFIXES)}), got {suffix or 'no suffix'}: {hint}"
        )
    return _READERS[suffix](path, column)


def _whole(path: Path, _: Column) -> list[str]:
    return [content_of(path)]


def _raw(path: Path, _: Column) -> list[str]:
    # As papers read WikiText: a row is a line with its end, and a blank line is an empty row.
    lines = content_of(path).splitlines(keepends=True)
    return [line if line.strip() else "" for line in lines]


_PLAIN: dict[str, Callable[[Path, Column], list[str]]] = {
    ".txt": _whole,
    ".raw": _raw,
    ".jsonl": json_lines,
    ".json": json_file,
    ".parquet": parquet_file,
}
_WITHOUT_COLUMNS = (".txt", ".raw", ".txt.gz", ".raw.gz")
_READERS = _PLAIN | {f"{suffix}.gz": _PLAIN[suffix] for suffix in _PLAIN if suffix != ".parquet"}


def _hub_text(dataset: str, part: Part, column: Column) -> Text:
    """One part of a hub's data set.

    Raises ValueError if the data set is out of reach, or has no such split or column.
    """
    path, _, configuration = _HUB_DATASETS.get(dataset, dataset).partition(":")
    revision = hub_revision(path)
    from datasets import get_dataset_split_names, load_dataset

    where: dict[str, Any] = {"path": path, "revision": revision}
    try:
        splits = get_dataset_split_names(config_name=configuration or None, **where)
        split = _choose(dataset, part, splits)
        rows = load_dataset(name=configuration or None, split=split, streaming=True, **where)
        texts, complete = _first_rows(dataset, rows, column)
    except OSError as error:
        raise _out_of_reach(path, error) from error
    origin = {
        "dataset": dataset,
        "path": path,
        "configuration": configuration or None,
        "split": split,
        "revision": revision,
        "read": "all" if complete else f"the first {MOST_CHARACTERS:,} characters",
    }
    return _joined(texts, origin, column)


def hub_revision(path: str) -> str:
    """The current commit of a hub's data set. Raises ValueError if the data set is out of reach.

    Ask for it before anything else: it fails at once, where a loader tries for half a minute.
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
    except Exception as error:  # the HTTP client and the hub client each raise their own
        raise _out_of_reach(path, error) from error


def _choose(dataset: str, part: Part, splits: Iterable[str]) -> str:
    for split in _SPLITS[part]:
        if split in splits:
            return split
    raise ValueError(
        f"dataset {dataset} has no split for {part}: none of {', '.join(_SPLITS[part])} in "
        f"{', '.join(splits)}"
    )


def _first_rows(
    dataset: str, rows: Iterable[dict[str, Any]], column: Column
) -> tuple[list[str], bool]:
    """The texts up to MOST_CHARACTERS, and whether these are all."""
    texts: list[str] = []
    characters = 0
    for row in rows:
        texts.append(column.of(row, f"dataset {dataset}, row {len(texts) + 1}"))
        characters += len(texts[-1])
        if characters >= MOST_CHARACTERS:
            return texts, False
    return texts, True


def _out_of_reach(path: str, error: Exception) -> ValueError:
    return ValueError(
        f"dataset {path} could not be loaded from the hub: {reason_of(error)}; give a local file "
        "or folder instead, as there is none of this name"
    )
