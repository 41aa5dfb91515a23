"""The process of a function under test: `python -m verification.conformance.worker NAME`.

It reads calls from standard input and writes answers to standard output, each with its length in
front. It never has more than the calls: no answers, and no names of cases.
"""

import json
import os
import sys
from typing import BinaryIO

from verification.conformance.callables import declarations, load_callable
from verification.conformance.calling import Call, answer_to_bytes

LENGTH = 8  # bytes of the length in front, a little-endian whole number


def serve(name: str) -> None:
    """Import the function, tell what it declares, and answer calls until the input ends."""
    with _moved(0, "rb", os.open(os.devnull, os.O_RDONLY)) as calls, _moved(1, "wb", 2) as answers:
        try:
            function = load_callable(name)
            told = {"declared": declarations(function)}
        except ValueError as error:
            _write(answers, json.dumps({"error": str(error)}).encode())
            return
        _write(answers, json.dumps(told, default=repr).encode())
        while length := calls.read(LENGTH):
            call = Call.from_bytes(calls.read(int.from_bytes(length, "little")))
            _write(answers, answer_to_bytes(call.answer(function)))


def _moved(descriptor: int, mode: str, instead: int) -> BinaryIO:
    """A file on a copy of a descriptor, which leads elsewhere from then on.

    What the function prints does not mix with the answers in this way.
    """
    copy = os.dup(descriptor)
    os.dup2(instead, descriptor)
    return os.fdopen(copy, mode)  # type: ignore[return-value]


def _write(answers: BinaryIO, content: bytes) -> None:
    answers.write(len(content).to_bytes(LENGTH, "little") + content)
    answers.flush()


if __name__ == "__main__":
    serve(sys.argv[1])
