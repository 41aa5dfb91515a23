"""Documents in JSON and Parquet files, and which of their columns is the text."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from numbers import Number
from pathlib import Path
from typing import Any

from thanos_torch.runtime.errors import reason_of

# Makes text of a column's value. Raises ValueError, whose message begins with `where`.
Render = Callable[[Any, str], str]
_KEYS = 100  # characters of the keys that a message lists


@dataclass(frozen=True)
class Column:
    """The column of documents that is their text. Messages name columns and never show a text.

    name    of the column of a table, or the key of a JSON object
    render  makes text of a value that is not text itself
    """

    name: str
    render: Render | None = None

    def check(self, keys: Iterable[str], where: str) -> None:
        """Raise ValueError unless the column is among the keys of a document."""
        keys = list(keys)
        if self.name not in keys:
            chat = "" if self.render else "; conversations are for --chat"
            hint = f"choose one with --column{chat if 'messages' in keys else ''}"
            raise ValueError(
                f'{where} has no column "{self.name}", but {repr(keys)[:_KEYS]}: {hint}'
            )

    @property
    def form(self) -> str:
        """What a document must look like, for messages."""
        return f'{{"{self.name}": ...}}'

    def of(self, document: object, where: str) -> str:
        """The text of a document. Raises ValueError if it has none."""
        if not isinstance(document, dict):
            raise ValueError(f"{where} must be {self.form}, got {kind_of(document)}")
        self.check(document, where)
        return self.text(document[self.name], where)

    def text(self, value: object, where: str) -> str:
        """The text of a column's value. Raises ValueError for a value that is none."""
        if self.render:
            return self.render(value, f"{where}, {self.name}")
        if not isinstance(value, str):
            got = _with_hint(value)
            raise ValueError(f"{where} must have a string as its {self.name}, got {got}")
        return value


def kind_of(value: object) -> str:
    """What a value is, for messages that must not show it."""
    kinds = {list: "a list", dict: "an object", str: "a string", type(None): "null"}
    if isinstance(value, Number):
        return "a number"
    return kinds.get(type(value), f"a {type(value).__name__}")


def _with_hint(value: object) -> str:
    messages = isinstance(value, list) and value and all(isinstance(each, dict) for each in value)
    return "a list of objects: messages are for --chat" if messages else kind_of(value)


def content_of(path: Path) -> str:
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


def json_lines(path: Path, column: Column) -> list[str]:
    """The texts of a file with one JSON document a line."""
    return list(_of_lines(path, content_of(path), column))


def json_file(path: Path, column: Column) -> list[str]:
    """The texts of one document or a list of them; or of JSON lines, which C4 has as .json."""
    content = content_of(path)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return list(_of_lines(path, content, column))
    documents = found if isinstance(found, list) else [found]
    return [
        column.of(document, f"dataset {path}, document {number}")
        for number, document in enumerate(documents, start=1)
    ]


def _of_lines(path: Path, content: str, column: Column) -> Iterator[str]:
    # Not splitlines, because JSON strings may hold other characters that end a line.
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = "nests too deeply" if isinstance(error, RecursionError) else "is no JSON"
            raise ValueError(
                f"dataset {path} must hold one {column.form} a line, or a .json file one list of "
                f"them; line {number} {reason}"
            ) from None
        yield column.of(document, f"dataset {path}, line {number}")


def parquet_file(path: Path, column: Column) -> list[str]:
    """The texts of a Parquet file, of which no other column is read."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise ValueError(
            f"dataset {path} needs pyarrow: pip install 'thanos-pruning[data]'"
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            column.check(file.schema_arrow.names, f"dataset {path}")
            values = file.read(columns=[column.name]).column(column.name).to_pylist()
    except (ArrowException, OSError, KeyError) as error:
        raise ValueError(f"dataset {path} cannot be read as Parquet: {reason_of(error)}") from error
    return [
        column.text(value, f"dataset {path}, row {number}")
        for number, value in enumerate(values, start=1)
    ]
