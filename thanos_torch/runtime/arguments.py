"""Arguments of public functions: what the annotations say, or a ValueError that names one."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache, wraps
from os import PathLike, fspath
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Any,
    Literal,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import numpy
import torch
from torch import Tensor, nn

from thanos_torch.runtime.strangers import shown

P = ParamSpec("P")
R = TypeVar("R")

_WORDS: dict[Any, str] = {
    int: "a whole number", float: "a number", str: "text", bool: "True or False",
    Path: "a path", NoneType: "None", Callable: "a function",
    Mapping: "a mapping", dict: "a dictionary", Sequence: "a list", tuple: "a list",
    Tensor: "a tensor", nn.Module: "a torch.nn.Module",
}  # fmt: skip
_PLAIN = (bool, int, float, complex, str, bytes, NoneType)


def checked(*apart: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function raise ValueError for arguments that are not of the annotated types.

    apart  arguments that the function checks itself

    The message names the argument. Any and object take everything, True and False are no numbers,
    and any sequence may stand for a tuple. Numbers of NumPy become Python's.
    """

    def decorated(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            given = signature.bind(*args, **kwargs)
            for name in given.arguments.keys() & _hints(function).keys() - {*apart}:
                value = given.arguments[name]
                value = value.item() if isinstance(value, numpy.number) else value
                given.arguments[name] = value
                check_types({name: value}, function)
            return function(*given.args, **given.kwargs)

        return call

    return decorated


def check_types(values: Mapping[str, object], of: Any) -> None:
    """Raise ValueError for a value, by name, that is not as a class or function annotates it."""
    for name, value in values.items():
        if not _fits(value, kind := _hints(of)[name]):
            got = shown(value) if isinstance(value, _PLAIN) else type(value).__name__
            raise ValueError(f"{name} must be {_words(kind)}, got {got}")


def check_device(device: torch.device | str, argument: str = "device") -> None:
    """Raise ValueError if this machine lacks a device, or if there is none of this name."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter if PyTorch was built without it
        reason = str(error).splitlines()[0]
        raise ValueError(f"{argument} {str(device)!r}: {reason}") from None
    if torch.device(device).type == "meta":
        raise ValueError(f"{argument} 'meta': it calculates nothing")


@cache
def _hints(of: Any) -> dict[str, Any]:
    return {name: kind for name, kind in get_type_hints(of).items() if name != "return"}


def _choices(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _fits(value: object, kind: Any) -> bool:
    return any(_fits_one(value, each) for each in _choices(kind))


def _fits_one(value: object, kind: Any) -> bool:
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin is Literal:
        return value in inner
    if origin is Path:
        return isinstance(value, PathLike) and isinstance(fspath(value), str)
    if origin in (int, float):
        number = int if origin is int else int | float
        return isinstance(value, number) and not isinstance(value, bool)
    if is_typeddict(origin):
        return isinstance(value, Mapping)
    if origin in (Sequence, tuple, list):
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            return False
        return all(_fits(part, inner[0]) for part in value if inner)
    return origin is Any or not isinstance(origin, type) or isinstance(value, origin)


def _words(kind: Any) -> str:
    """What a type is called in a message."""
    words: list[str] = []
    for each in _choices(kind):
        origin = get_origin(each) or each
        if origin is Literal:
            words += map(repr, get_args(each))
        else:
            words.append(_WORDS.get(origin) or str(getattr(origin, "__name__", origin)))
    return " or ".join(dict.fromkeys(words))
