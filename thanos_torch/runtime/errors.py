"""Errors of foreign code, such as a model's forward pass, as a ValueError of one line."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def in_one_line(what: str | Callable[[], str]) -> Iterator[None]:
    """Turn an error of foreign code into a ValueError of one line, chained to it.

    what  what could not be done, or a function that tells it then; the line begins with it

    Errors that this package raises itself pass as they are: they say what is wrong.
    """
    try:
        yield
    except Exception as error:  # foreign code raises what it likes
        if is_own(error):
            raise
        done = what if isinstance(what, str) else what()
        raise ValueError(f"{done}: {said_by(error)} (--debug shows the traceback)") from error


def is_own(error: Exception) -> bool:
    """Whether this package raised a ValueError or an OSError itself."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    raiser = str(frames[-1].f_globals.get("__name__")) if frames else ""
    return isinstance(error, ValueError | OSError) and raiser.startswith("thanos_torch.")


def said_by(error: Exception) -> str:
    """The class of an error and the first line of its text."""
    lines = str(error).strip().splitlines()
    return ": ".join([type(error).__name__, *lines[:1]])
