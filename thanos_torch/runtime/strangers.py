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
        found: T = _typed(value, kind, "")
    except ValueError as error:
        raise ValueError(f"{problem}: {error}") from None
    return found


def _typed(value: Any, kind: Any, where: str) -> Any:
    if kind is Any or kind is object:
        return value
    if is_dataclass(kind) or is_typeddict(kind):
        return _record(value, kind, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Annotated, NotRequired):
        return _bounded(value, arguments, where)
    if origin in (Union, types.UnionType):
        return _one_of(value, arguments, where)
    if origin is Literal:
        return _known(value, arguments, where)
    if origin in (list, tuple, set):
        return _sequence(value, origin, arguments, where)
    if origin in (dict, Mapping):
        _expect(isinstance(value, dict), "an object", value, where)
        return {name: _typed(each, arguments[1], _within(where, name))
                for name, each in value.items()}  # fmt: skip
    return _plain(value, kind, where)


def _within(where: str, name: str) -> str:
    return f"{where}.{printable(name)}" if where else printable(name)


def _expect(holds: bool, what: str, value: object, where: str) -> None:
    if not holds:
        raise ValueError(f"{where or 'it'} must be {what}, got {shown(value)}")


_WORDS: dict[Any, str] = {
    int: "a whole number", float: "a number", str: "text", bool: "true or false",
    types.NoneType: "null", dict: "an object", list: "a list",
}  # fmt: skip


def _plain(value: Any, kind: Any, where: str, finite: bool = True) -> Any:
    if kind is None:
        kind = types.NoneType
    wanted = (int, float) if kind is float else kind
    right = isinstance(value, wanted) and (kind is bool or not isinstance(value, bool))
    _expect(right, _WORDS[kind], value, where)
    _expect(not finite or kind is not float or math.isfinite(value), "finite", value, where)
    return value


def _bounded(value: Any, arguments: tuple[Any, ...], where: str) -> Any:
    if len(arguments) == 1:  # NotRequired
        return _typed(value, arguments[0], where)
    kind, bound = arguments
    found = _plain(value, kind, where, bound.finite)
    _expect(not found < bound.least, f"at least {bound.least}", value, where)
    return found


def _known(value: Any, choices: tuple[Any, ...], where: str) -> Any:
    words = ", ".join(map(str, choices))
    same = any(type(value) is type(each) and value == each for each in choices)
    _expect(same, f"one of {words}", value, where)
    return value


def _one_of(value: Any, choices: tuple[Any, ...], where: str) -> Any:
    if value is None and types.NoneType in choices:
        return None
    left = [each for each in choices if each is not types.NoneType]
    for kind in left[:-1]:
        try:
            return _typed(value, kind, where)
        except ValueError:
            continue
    return _typed(value, left[-1], where)


def _sequence(value: Any, kind: Any, arguments: tuple[Any, ...], where: str) -> Any:
    _expect(isinstance(value, list | tuple), "a list", value, where)
    if kind is tuple and arguments[-1] is not Ellipsis:
        _expect(len(value) == len(arguments), f"{len(arguments)} values", value, where)
    else:
        arguments = arguments[:1] * len(value)
    parts = enumerate(zip(value, arguments, strict=True))
    return kind([_typed(each, own, f"{where}[{number}]") for number, (each, own) in parts])


def _record(value: Any, kind: Any, where: str) -> Any:
    made: Any = kind
    _expect(isinstance(value, Mapping), "an object", value, where)
    found = {}
    for name, own in _annotations(kind).items():
        if name in value:
            found[name] = _typed(value[name], own, _within(where, name))
        elif get_origin(own) is not NotRequired:
            raise ValueError(f"{where or 'it'} has no {name!r}")
    return made(**found) if is_dataclass(kind) else {**value, **found}


@cache
def _annotations(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {each.name: hints[each.name] for each in fields(kind)} if is_dataclass(kind) else hints


def is_file_name(name: str) -> bool:
    """Whether a stranger's text names a file directly in a folder, on every system."""
    plain = name not in ("", ".", "..") and Path(name).name == name and "\\" not in name
    controls = any(category(each) == "Cc" for each in name)
    return plain and not controls and len(name.encode()) <= MOST_OF_A_NAME


def refuse_path(where: str, path: str) -> None:
    """Raise ValueError unless a stranger's text names a file in a folder or below it."""
    if not all(map(is_file_name, path.split("/"))):
        raise ValueError(f"{where} names {shown(path)}, which is no file in a folder")
