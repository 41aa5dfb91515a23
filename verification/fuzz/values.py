"""Variations of valid JSON that stay JSON: other types, values, nesting, lengths and references."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

from verification.fuzz.mutations import NODES, places_in

MAX_CHANGES = 3
DEPTHS = (1, 2, 70, 900, 3000, 100_000)
NUMBERS = (0, 1, -1, 2, 3, 10, 1e-3, 2**31, 2**53, 10**17, 10**30, 1e308, -1e308)
TEXTS = (
    "", " ", ".", "..", "../x", "/x", "a/b", "a\\b", "a\nb", "\x1b[2J", "[/x]", "[red]", "\u2028",
    "passed", "failed", "true", "1", "2:4", "4:2", "unstructured:0.5", "dense", "F32", "x" * 3000,
)  # fmt: skip
_DEEP = "\0deep"  # stands for nested lists, which `json` itself cannot write

Place = tuple[Any, Any]  # a container, and a key or index in it


def varied(rng: Random, seeds: tuple[bytes, ...]) -> bytes:
    """One of the seeds, which are JSON, after 1 to MAX_CHANGES changes."""
    content = [json.loads(rng.choice(seeds))]
    for _ in range(rng.randint(1, MAX_CHANGES)):
        places = list(places_in(content))
        if places:
            rng.choice(CHANGES)(rng, rng.choice(places), places)
    depth = rng.choice(DEPTHS)
    text = json.dumps(content[0] if content else None).replace(
        json.dumps(_DEEP), "[" * depth + "]" * depth
    )
    return text.encode()


def _retype(rng: Random, place: Place, _: list[Place]) -> None:
    holder, key = place
    value = holder[key]
    holder[key] = rng.choice((str(value), [value], {"a": value}, None, True, 0.5, {}, [], "a"))


def _replace(rng: Random, place: Place, _: list[Place]) -> None:
    holder, key = place
    holder[key] = json.loads(json.dumps(rng.choice(NODES)))


def _revalue(rng: Random, place: Place, _: list[Place]) -> None:
    holder, key = place
    value = holder[key]
    if isinstance(value, bool):
        holder[key] = not value
    elif isinstance(value, int | float):
        holder[key] = rng.choice((*NUMBERS, -value, value + 1, value - 1, 2 * value, value / 3))
    elif isinstance(value, str):
        holder[key] = rng.choice((*TEXTS, value + " ", value[:-1], value + "\x1b", value * 2))


def _nest(rng: Random, place: Place, _: list[Place]) -> None:
    holder, key = place
    holder[key] = _DEEP


def _shorten(rng: Random, place: Place, _: list[Place]) -> None:
    holder, key = place
    del holder[key]


def _lengthen(rng: Random, place: Place, places: list[Place]) -> None:
    holder, key = place
    if isinstance(holder, list):
        holder.insert(key, _copy(holder[key]))
    else:
        holder[rng.choice((*TEXTS, "name", "weight"))] = _copy(holder[key])


def _rename(rng: Random, place: Place, places: list[Place]) -> None:
    """Give a value the key of another, or change places with a neighbour."""
    holder, key = place
    if isinstance(holder, dict):
        others = [other for _, other in places if isinstance(other, str)]
        holder[rng.choice((*TEXTS, *others))] = holder.pop(key)
    else:
        other = rng.randrange(len(holder))
        holder[key], holder[other] = holder[other], holder[key]


def _refer(rng: Random, place: Place, places: list[Place]) -> None:
    """Put in the value of another place, of the same type if there is one."""
    holder, key = place
    same = [other for other in places if type(other[0][other[1]]) is type(holder[key])]
    other, at = rng.choice(same)
    holder[key] = _copy(other[at])


def _exchange(rng: Random, place: Place, places: list[Place]) -> None:
    """Exchange two values with the same key, as those of two layers."""
    holder, key = place
    other, at = rng.choice([each for each in places if each[1] == key])
    mine, theirs = _copy(holder[key]), _copy(other[at])
    holder[key] = theirs
    if at in other if isinstance(other, dict) else at < len(other):
        other[at] = mine


def _copy(value: Any) -> Any:
    return json.loads(json.dumps(value))


CHANGES: tuple[Callable[[Random, Place, list[Place]], None], ...] = (
    _retype, _replace, _revalue, _revalue, _nest, _shorten, _lengthen, _rename, _refer, _exchange,
)  # fmt: skip
