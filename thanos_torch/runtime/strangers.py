"""What strangers wrote: JSON as typed records, texts, names of files; errors of one line.

A type says what a record must be: `read_json(file, list[int])`, or a dataclass or a TypedDict whose
annotations are followed. What a command reads is checked here once, and used without checks after.
"""

import json
import math
import stat
import types
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)
from unicodedata import category

T = TypeVar("T")

DEEPEST = 60  # levels of nesting; Python gives up at a thousand, in whatever function it is in
MOST_DIGITS = 18  # of a whole number, which then fits into 64 bits
MOST_BYTES = 2**30  # of a JSON file; the record of 50,000 layers takes a seventh
MOST_OF_A_NAME = 255  # bytes
SHOWN = 60  # characters of a wrong value that a message shows


@dataclass(frozen=True)
class AtLeast:
    """The least value of a number: `Annotated[int, AtLeast(1)]`.

    finite  whether NaN and infinity are refused, as they are without a bound
    """

    least: float
    finite: bool = True


Count = Annotated[int, AtLeast(0)]
Size = Annotated[int, AtLeast(1)]
Shape = tuple[Size, Size]  # (c, b)


def printable(text: str) -> str:
    """Text of a stranger on one line, with control characters as escapes."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


_LONG = {"dict": "an object", "list": "a list", "tuple": "a list"}


def shown(value: object) -> str:
    """A wrong value for a message: on one line, and not all of it if it is long."""
    text = repr(value) if not value else _LONG.get(type(value).__name__) or repr(value)
    text = printable(text)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def read_json(file: Path, kind: type[T], otherwise: str = "is damaged") -> T:
    """A JSON file as a record of the type `kind`.

    otherwise  what a message says of a file that is none: "is damaged", "is no index of ..."

    Raises ValueError, which begins with the file's path and `otherwise`.
    """
    try:
        facts = file.stat()  # a pipe would never end, and has no size
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > MOST_BYTES:
            raise ValueError(f"{file} {otherwise}: it is no file of at most {MOST_BYTES} bytes")
        text = file.read_bytes()
    except OSError as error:
        raise ValueError(f"{file} {otherwise}: {error.strerror}") from error
    return from_json(text, kind, f"{file} {otherwise}")


def from_json(text: str | bytes, kind: type[T], problem: str) -> T:
    """JSON as a record of the type `kind`. Raises ValueError that begins with `problem`."""
    try:
        parsed = json.loads(
            text.decode("utf-8") if isinstance(text, bytes) else text,
            object_pairs_hook=_unique,
            parse_int=_whole_number,
        )
        _refuse_odd(parsed)
    except RecursionError:
        raise ValueError(f"{problem}: it nests too deeply") from None
    except ValueError as error:
        raise ValueError(f"{problem}: {printable(str(error))}") from None
    return typed(parsed, kind, problem)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{shown(twice)} stands twice in one object")
    return found


def _whole_number(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _refuse_odd(parsed: Any) -> None:
    """Raise ValueError for deep nesting, and for halves of characters, which no file can hold."""
    level = [parsed]
    for _ in range(DEEPEST):
        below: list[Any] = []
        for value in level:
            if isinstance(value, str):
                _refuse_halves(value)
            elif isinstance(value, dict):
                below += value
                below += value.values()
            elif isinstance(value, list):
                below += value
        level = below
    if level:
        raise ValueError(f"it nests more than {DEEPEST} levels deep")


def _refuse_halves(text: str) -> None:
    if not text.isascii() and any("\ud800" <= each <= "\udfff" for each in text):
        raise ValueError(f"{shown(text)} holds half a character")


def typed(value: Any, kind: type[T], problem: str) -> T:
    """A value that was parsed as a record of the type `kind`.

    Types may be numbers, str, bool, None, Literal, unions, lists, tuples, mappings from str,
    `Annotated` with `AtLeast`, dataclasses and TypedDicts; `object` and Any take everything. All
    fields of a dataclass are needed, and all of a TypedDict that are not NotRequired. Unknown keys
    are left out of a dataclass and kept in a TypedDict. Raises ValueError that begins with
    `problem` and names the place.
    """
    try:
        found: T = _typed(value, kind)
    except _MisfitError as error:
        raise ValueError(f"{problem}: {error}") from None
    return found


class _MisfitError(Exception):
    """A value of another type; its place is known when it has passed all that it is in."""

    def __init__(self, expected: str, value: object) -> None:
        super().__init__()
        self.place, self.what = "", f"must be {expected}, got {shown(value)}"

    def inside(self, name: str | int) -> "_MisfitError":
        """The same error, one level further out."""
        own = f"[{name}]" if isinstance(name, int) else printable(name)
        dot = "." if self.place and not self.place.startswith("[") else ""
        self.place = f"{own}{dot}{self.place}"
        return self

    def __str__(self) -> str:
        return f"{self.place or 'it'} {self.what}"


class _LackError(_MisfitError):
    def __init__(self, name: str) -> None:
        super().__init__("", None)
        self.what = f"has no {name!r}"


_WORDS: dict[Any, str] = {
    int: "a whole number", float: "a number", str: "text", bool: "true or false",
    types.NoneType: "null", dict: "an object", list: "a list",
}  # fmt: skip


@cache
def _parts(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """What a type is made of: its origin, and its arguments."""
    if is_dataclass(kind) or is_typeddict(kind):
        return dataclass, ()
    return get_origin(kind), get_args(kind)


def _typed(value: Any, kind: Any) -> Any:
    if kind is Any or kind is object:
        return value
    origin, arguments = _parts(kind)
    if origin is None:
        return _plain(value, kind)
    if origin is dataclass:
        return _record(value, kind)
    if origin in (Annotated, NotRequired):
        return _bounded(value, arguments)
    if origin in (Union, types.UnionType):
        return _one_of(value, arguments)
    if origin is Literal:
        if not any(type(value) is type(each) and value == each for each in arguments):
            raise _MisfitError(f"one of {', '.join(map(str, arguments))}", value)
        return value
    if origin in (list, tuple):
        return _sequence(value, origin, arguments)
    if not isinstance(value, Mapping):
        raise _MisfitError("an object", value)
    return {name: _member(name, each, arguments[1]) for name, each in value.items()}


def _member(name: str | int, value: Any, kind: Any) -> Any:
    try:
        return _typed(value, kind)
    except _MisfitError as error:
        raise error.inside(name) from None


def _plain(value: Any, kind: Any, finite: bool = True) -> Any:
    wanted = (int, float) if kind is float else types.NoneType if kind is None else kind
    if not isinstance(value, wanted) or (kind is not bool and isinstance(value, bool)):
        raise _MisfitError(_WORDS[kind], value)
    if finite and isinstance(value, float) and not math.isfinite(value):
        raise _MisfitError("finite", value)
    return value


def _bounded(value: Any, arguments: tuple[Any, ...]) -> Any:
    if len(arguments) == 1:  # NotRequired
        return _typed(value, arguments[0])
    kind, bound = arguments
    found = _plain(value, kind, bound.finite)
    if found < bound.least:
        raise _MisfitError(f"at least {bound.least}", value)
    return found


def _one_of(value: Any, choices: tuple[Any, ...]) -> Any:
    if value is None and types.NoneType in choices:
        return None
    left = [each for each in choices if each is not types.NoneType]
    for kind in left[:-1]:
        try:
            return _typed(value, kind)
        except _MisfitError:
            continue
    return _typed(value, left[-1])


def _sequence(value: Any, kind: Any, arguments: tuple[Any, ...]) -> Any:
    if not isinstance(value, list | tuple):
        raise _MisfitError("a list", value)
    if kind is list or arguments[-1] is Ellipsis:
        return kind([_member(n, each, arguments[0]) for n, each in enumerate(value)])
    if len(value) != len(arguments):
        raise _MisfitError(f"{len(arguments)} values", value)
    pairs = zip(value, arguments, strict=True)
    return tuple(_member(n, each, own) for n, (each, own) in enumerate(pairs))


def _record(value: Any, kind: Any) -> Any:
    made: Any = kind
    if not isinstance(value, Mapping):
        raise _MisfitError("an object", value)
    found = {}
    for name, (own, needed) in _annotations(kind).items():
        if name in value:
            found[name] = _member(name, value[name], own)
        elif needed:
            raise _LackError(name)
    return made(**found) if is_dataclass(kind) else {**value, **found}


@cache
def _annotations(kind: Any) -> dict[str, tuple[Any, bool]]:
    """The type of every field, and whether it is needed."""
    hints = get_type_hints(kind, include_extras=True)
    names = [each.name for each in fields(kind)] if is_dataclass(kind) else list(hints)
    return {name: (hints[name], get_origin(hints[name]) is not NotRequired) for name in names}


def is_file_name(name: str) -> bool:
    """Whether a stranger's text names a file directly in a folder, on every system."""
    plain = name not in ("", ".", "..") and Path(name).name == name and "\\" not in name
    controls = any(category(each) == "Cc" for each in name)
    return plain and not controls and len(name.encode()) <= MOST_OF_A_NAME


def refuse_path(where: str, path: str) -> None:
    """Raise ValueError unless a stranger's text names a file in a folder or below it."""
    if not all(map(is_file_name, path.split("/"))):
        raise ValueError(f"{where} names {shown(path)}, which is no file in a folder")
