"""Read calibration and evaluation text: from Python's own help, from local files, or from a hub."""

import gzip
import json
import platform
import re
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from thanos_torch.runtime.errors import reason_of

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


@dataclass(frozen=True)
class Text:
    """One part of a data set, its rows joined by `SEPARATOR`.

    rows    how many rows there were
    origin  where the text comes from, for a report, JSON-able
    """

    text: str
    rows: int
    origin: dict[str, Any]


def read_text(dataset: str, part: Part) -> Text:
    """Read one part of a data set.

    dataset  `pydoc`, the default; a file (.txt, .raw as WikiText has it, .parquet with a column
             "text", .jsonl with a "text" per line, or .json with such lines or one list of them;
             all but .parquet also as .gz), which serves for both parts; a folder of such files
             named train, valid or test; or a hub's data set: `wikitext2`, `c4`, owner/name or
             owner/name:configuration

    Raises ValueError if there is no such text, and for a file with another suffix.
    """
    if dataset == DEFAULT_DATASET:
        # The default text is part of Python and changes with it.
        version = platform.python_version()
        return _joined(_pydoc_rows(part), {"dataset": f"pydoc of Python {version}"})
    path = Path(dataset)
    if path.exists():
        file = _file_for(path, part) if path.is_dir() else path
        return _joined(_file_rows(file), {"dataset": dataset, "file": file.name})
    if dataset not in _HUB_DATASETS and not _HUB_NAME.fullmatch(dataset):
        raise ValueError(
            f"dataset must be {DEFAULT_DATASET}, {', '.join(_HUB_DATASETS)}, a file, a folder, or "
            f"owner/name[:configuration] of a hub, got {dataset!r}"
        )
    return _hub_text(dataset, part)


def _joined(rows: list[str], origin: dict[str, Any]) -> Text:
    text = SEPARATOR.join(rows)
    try:
        text.encode()
    except UnicodeEncodeError as error:  # JSON can write down half of a pair of surrogates
        half = ascii(text[error.start])
        raise ValueError(f"dataset {origin['dataset']} holds half a character, {half}") from None
    return Text(text, len(rows), origin)


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


def _file_rows(path: Path) -> list[str]:
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
    return _READERS[suffix](path)


def _content(path: Path) -> str:
    """The text of a file, unpacked; without the mark of bytes' order that some editors write."""
    try:
        if path.suffix.lower() == ".gz":
            with gzip.open(path) as stream:
                content = stream.read()
        else:
            content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"dataset {path} is not UTF-8 text: {error}") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"dataset {path} cannot be unpacked: {error}") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _whole(path: Path) -> list[str]:
    return [_content(path)]


def _raw(path: Path) -> list[str]:
    # As papers read WikiText: a row is a line with its end, and a blank line is an empty row.
    lines = _content(path).splitlines(keepends=True)
    return [line if line.strip() else "" for line in lines]


def _json_lines(path: Path) -> list[str]:
    return _documents(path, _content(path))


def _json(path: Path) -> list[str]:
    """One document or a list of them; or JSON lines, which C4 has under this name."""
    content = _content(path)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return _documents(path, content)
    documents = found if isinstance(found, list) else [found]
    return [
        _text_of(document, f"dataset {path}, document {number}")
        for number, document in enumerate(documents, start=1)
    ]


def _documents(path: Path, content: str) -> list[str]:
    rows = []
    # Not splitlines, because JSON strings may hold other characters that end a line.
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = "nests too deeply" if isinstance(error, RecursionError) else "is no JSON"
            raise ValueError(
                f'dataset {path} must hold one {{"text": ...}} a line, or a .json file '
                f"one list of them; line {number} {reason}"
            ) from None
        rows.append(_text_of(document, f"dataset {path}, line {number}"))
    return rows


def _text_of(document: object, where: str) -> str:
    """The text of a document. Raises ValueError, whose message never shows the text."""
    if not isinstance(document, dict):
        raise ValueError(f'{where} must be {{"text": ...}}, got {_kind(document)}')
    if "text" not in document:
        keys = repr(list(document))[:100]
        raise ValueError(f'{where} must be {{"text": ...}}, got the keys {keys}')
    text = document["text"]
    if not isinstance(text, str):
        raise ValueError(f"{where} must have a string as its text, got {_kind(text)}")
    return text


def _kind(value: object) -> str:
    kinds = {list: "a list", dict: "an object", str: "a string", type(None): "null"}
    return kinds.get(type(value), "a number")


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
        raise ValueError(
            f"dataset {path} must be Parquet with a column text: {reason_of(error)}"
        ) from error
    if not all(isinstance(row, str) for row in rows):
        raise ValueError(f"dataset {path} must have strings in its column text, in every row")
    return rows


_PLAIN: dict[str, Callable[[Path], list[str]]] = {
    ".txt": _whole,
    ".raw": _raw,
    ".jsonl": _json_lines,
    ".json": _json,
    ".parquet": _parquet,
}
_READERS = _PLAIN | {f"{suffix}.gz": _PLAIN[suffix] for suffix in _PLAIN if suffix != ".parquet"}


def _hub_text(dataset: str, part: Part) -> Text:
    """One part of a hub's data set, its column `text`.

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
        texts, complete = _first_rows(dataset, rows)
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
    return _joined(texts, origin)


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


def _first_rows(dataset: str, rows: Iterable[dict[str, Any]]) -> tuple[list[str], bool]:
    """The texts up to MOST_CHARACTERS, and whether these are all."""
    texts: list[str] = []
    characters = 0
    for row in rows:
        if "text" not in row:
            raise ValueError(f"dataset {dataset} has no column text, but {', '.join(row)}")
        texts.append(_text_of(row, f"dataset {dataset}, row {len(texts) + 1}"))
        characters += len(row["text"])
        if characters >= MOST_CHARACTERS:
            return texts, False
    return texts, True


def _out_of_reach(path: str, error: Exception) -> ValueError:
    return ValueError(
        f"dataset {path} could not be loaded from the hub: {reason_of(error)}; give a local file "
        "or folder instead"
    )
