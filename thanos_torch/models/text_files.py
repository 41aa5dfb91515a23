"""Rows of text in local files."""

import json
from collections.abc import Callable
from pathlib import Path


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
