"""Random damage to a valid file: changes of its bytes and of the values of its JSON."""

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

# Texts that break readers: numbers too large or of another type, unfinished texts, nesting.
TOKENS = (
    b"-1", b"0", b"1e999", b"NaN", b"Infinity", b"null", b"true", b"[]", b"{}", b'""', b'"',
    b"18446744073709551615", b"9223372036854775807", b"4611686018427387904", b"1" * 400,
    b"[" * 500, b'{"a":' * 200, b"../../etc/passwd", b"\x00", b"\xff\xfe", b"\\ud800",
    b'"F64"', b'"BOOL"', b'"shape"', b"e99999999", b"1/0", b":", b"+outliers:",
    b"_", b"e-", b"e-9_9_9_9_9_9_9_9", b"9" * 3000, b"[" * 900 + b"]" * 900, b"\x1b[2J", b"\n",
)  # fmt: skip
# Values that break readers of valid JSON.
NODES: tuple[Any, ...] = (
    -1, 0, 1, 2, 2**31, 10**17, 2**53, 2**64, 0.5, -0.0, 1e308, float("inf"), float("nan"), None,
    True, False, "", "..", "../../etc/passwd", "/etc/passwd", "a\0b", "\ud800", "\x1b[2J", "F64",
    "BF16", "BOOL", "x" * 5000, [], {}, [[]], [-1], [0] * 9, [10**17, 0], [True], [1.0], {"a": {}},
    {"": 0}, ["thanos", {}],
)  # fmt: skip
KEYS = ("", "../x", "__metadata__", "weight", "id", "\ud800")
MAX_CHANGES = 4


def spoiled(rng: Random, seeds: tuple[bytes, ...]) -> bytes:
    """One of the seeds after 1 to MAX_CHANGES changes."""
    content = rng.choice(seeds)
    for _ in range(rng.randint(1, MAX_CHANGES)):
        content = rng.choice(CHANGES)(rng, content, seeds)
    return content


def _place(rng: Random, content: bytes) -> int:
    # Mostly near the start, where files have their headers.
    end = len(content) if rng.random() < 0.3 else min(len(content), 400)
    return rng.randint(0, end)


def _flip(rng: Random, content: bytes, _: tuple[bytes, ...]) -> bytes:
    if not content:
        return content
    at = min(_place(rng, content), len(content) - 1)
    return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]


def _truncate(rng: Random, content: bytes, _: tuple[bytes, ...]) -> bytes:
    return content[: _place(rng, content)]


def _insert(rng: Random, content: bytes, _: tuple[bytes, ...]) -> bytes:
    at = _place(rng, content)
    return content[:at] + rng.choice(TOKENS) + content[at:]


def _remove(rng: Random, content: bytes, _: tuple[bytes, ...]) -> bytes:
    at = _place(rng, content)
    return content[:at] + content[at + rng.randint(1, 20) :]


def _repeat(rng: Random, content: bytes, _: tuple[bytes, ...]) -> bytes:
    at = _place(rng, content)
    return content[:at] + content[at : at + rng.randint(1, 60)] * 2 + content[at:]


def _splice(rng: Random, content: bytes, seeds: tuple[bytes, ...]) -> bytes:
    other = rng.choice(seeds)
    return content[: _place(rng, content)] + other[_place(rng, other) :]


def _length(rng: Random, content: bytes, _: tuple[bytes, ...]) -> bytes:
    """Replace the first eight bytes, the length of a header."""
    length = rng.choice((0, 1, len(content), 2**20, 2**31, 2**63, rng.randrange(2 * 400)))
    return length.to_bytes(8, "little") + content[8:]


def _value(rng: Random, content: bytes, _: tuple[bytes, ...]) -> bytes:
    """Replace the text between two JSON delimiters, and correct the header length."""
    marks = [at for at, byte in enumerate(content[:2000]) if byte in b":,[]{}"]
    if len(marks) < 2:
        return content
    k = rng.randrange(len(marks) - 1)
    changed = content[: marks[k] + 1] + rng.choice(TOKENS) + content[marks[k + 1] :]
    header = int.from_bytes(content[:8], "little")
    if 0 < header < len(content):
        longer = max(header + len(changed) - len(content), 0)
        changed = longer.to_bytes(8, "little") + changed[8:]
    return changed


def _node(rng: Random, content: bytes, _: tuple[bytes, ...]) -> bytes:
    """Replace, remove, copy or rename one value of the JSON."""
    header = 0 if content.startswith(b"{") else int.from_bytes(content[:8], "little")
    text = content[8 : 8 + header] if header else content
    try:
        changed = _with_other_node(rng, json.loads(text))
    except (ValueError, RecursionError):  # damaged already, or nested too deeply
        return content
    if not header:
        return changed
    return len(changed).to_bytes(8, "little") + changed + content[8 + header :]


def _with_other_node(rng: Random, found: Any) -> bytes:
    places = list(places_in(found))
    if not places:
        return json.dumps(rng.choice(NODES)).encode()
    holder, key = rng.choice(places)
    kind = rng.randrange(4)
    if kind == 0 and isinstance(holder, dict):
        holder[rng.choice(KEYS)] = holder.pop(key)
    elif kind == 1:
        del holder[key]
    elif kind == 2:
        other, at = rng.choice(places)
        holder[key] = json.loads(json.dumps(other[at]))  # a copy, as it may contain this place
    else:
        holder[key] = rng.choice(NODES)
    return json.dumps(found, ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass")


def places_in(found: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key or index) in a JSON value."""
    waiting = [found]
    while waiting:
        holder = waiting.pop()
        if isinstance(holder, dict | list):
            for key in holder if isinstance(holder, dict) else range(len(holder)):
                yield holder, key
                waiting.append(holder[key])


CHANGES: tuple[Callable[[Random, bytes, tuple[bytes, ...]], bytes], ...] = (
    _flip, _truncate, _insert, _remove, _repeat, _splice, _length, _value, _value,
    _node, _node, _node,
)  # fmt: skip
