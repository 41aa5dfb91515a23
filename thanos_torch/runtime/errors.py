"""Errors of other code, such as a model's forward pass: their reasons, on one line."""

import dis
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

MOST = 600  # characters of a reason: some libraries list all that they know


class Terminated(BaseException):
    """A signal ends the program with an exit status. No SystemExit, which models may raise."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


@contextmanager
def in_one_line(what: str | Callable[[], str]) -> Iterator[None]:
    """Turn an error of foreign code into a ValueError of one line, chained to it.

    what  what could not be done, or a function that tells it then; the line begins with it

    Errors that this package raises itself pass as they are: they say what is wrong.
    """
    try:
        yield
    except (Exception, SystemExit) as error:  # foreign code raises what it likes
        if is_own(error):
            raise
        done = what if isinstance(what, str) else what()
        raise ValueError(f"{done}: {said_by(error)} (--debug shows the traceback)") from error


def is_own(error: BaseException) -> bool:
    """Whether this package raised a ValueError itself, or failed to read or write a file."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    raiser = str(trace.tb_frame.f_globals.get("__name__")) if trace else ""
    if not trace or not raiser.startswith("thanos_torch."):
        return False
    return isinstance(error, OSError) or (isinstance(error, ValueError) and _has_raised(trace))


def _has_raised(trace: TracebackType) -> bool:
    """Whether the last frame raised by a statement; else a function without a frame did, in C."""
    code = trace.tb_frame.f_code.co_code
    return dis.opname[code[trace.tb_lasti]] == "RAISE_VARARGS"


def reason_of(error: BaseException) -> str:
    """The whole text of an error on one line, cut after MOST characters."""
    text = " ".join(_text(error).split())
    # The text of these is the missing key, or the status, alone.
    if not text or isinstance(error, LookupError | SystemExit):
        text = f"{type(error).__name__} {text}".strip()
    return _cut(text)


def said_by(error: BaseException) -> str:
    """The class of an error and the first line of its text, cut after MOST characters."""
    lines = _text(error).strip().splitlines()
    return _cut(": ".join([type(error).__name__, *lines[:1]]))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # its class may be wrong too
        return ""


def _cut(text: str) -> str:
    return text if len(text) <= MOST else f"{text[:MOST]}..."
