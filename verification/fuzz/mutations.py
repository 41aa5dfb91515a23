"""How a right file is spoiled: a few random changes, of bytes and of what JSON holds."""

from collections.abc import Callable
from random import Random

# What readers stumble over: numbers that are too large, of another type or no numbers, texts that
# end too early, nesting.
TOKENS = (
    b"-1", b"0", b"1e999", b"NaN", b"Infinity", b"null", b"true", b"[]", b"{}", b'""', b'"',
    b"18446744073709551615", b"9223372036854775807", b"4611686018427387904", b"1" * 400,
    b"[" * 500, b'{"a":' * 200, b"../../etc/passwd", b"\x00", b"\xff\xfe", b"\\ud800",
    b'"F64"', b'"BOOL"', b'"shape"', b"e99999999", b"1/0", b":", b"+outliers:",
)  # fmt: skip
MAX_CHANGES = 4


def spoiled(rng: Random, seeds: tuple[bytes, ...]) -> bytes:
    """One of the seeds after one to four changes."""
    content = rng.choice(seeds)
    for _ in range(rng.randint(1, MAX_CHANGES)):
        content = rng.choice(CHANGES)(rng, content, seeds)
    return content


def _place(rng: Random, content: bytes) -> int:
    # Mostly in the first part, where files say what they hold.
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
    """The first eight bytes: the length of a header."""
    length = rng.choice((0, 1, len(content), 2**20, 2**31, 2**63, rng.randrange(2 * 400)))
    return length.to_bytes(8, "little") + content[8:]


def _value(rng: Random, content: bytes, _: tuple[bytes, ...]) -> bytes:
    """What stands between two marks of JSON, for something else; header lengths follow."""
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


CHANGES: tuple[Callable[[Random, bytes, tuple[bytes, ...]], bytes], ...] = (
    _flip, _truncate, _insert, _remove, _repeat, _splice, _length, _value, _value,
)  # fmt: skip
