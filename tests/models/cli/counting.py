"""The reference, for `thanos verify`, if its process was given three threads."""

import os
from typing import Any

import reference
from reference.threads import NUMBERS

assert {os.environ.get(name) for name in NUMBERS} == {"3"}


def thanos(weight: Any, gram: Any, pattern: str, block_size: int, damping: float) -> Any:
    asked = reference.parse_pattern(pattern)
    done = reference.thanos(weight, gram, asked, block_size=block_size, damping=damping)
    return done.weight, done.mask
