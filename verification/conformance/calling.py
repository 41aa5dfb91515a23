"""Calls a Python function on one input, and makes an answer of whatever it does."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from verification.conformance.implementation import (
    MAX_MESSAGE,
    Answer,
    Failed,
    Output,
    Refused,
    wrong_shape,
)
from verification.conformance.tensors import Tensor, encode_tensors, parse_tensors

PARTS = ("weight", "mask", "block_losses")


@dataclass(frozen=True)
class Call:
    """The arguments of one call.

    options  keyword arguments: method and storage, if the function declared them
    gaps     whether the matrices have gaps in memory
    """

    weight: Tensor
    gram: Tensor
    pattern: str
    block_size: float
    damping: float
    options: Mapping[str, str]
    gaps: bool

    def to_bytes(self) -> bytes:
        """The call as the content of a safetensors file."""
        given = [self.pattern, self.block_size, self.damping, dict(self.options), self.gaps]
        tensors = {"weight": self.weight, "gram": self.gram}
        return encode_tensors(tensors, {"call": json.dumps(given)})

    @staticmethod
    def from_bytes(content: bytes) -> "Call":
        """Read a call. Raises ValueError if it is malformed."""
        given = parse_tensors(content)
        return Call(given["weight"], given["gram"], *json.loads(given.metadata["call"]))

    def answer(self, function: Callable[..., Any]) -> Answer:
        """Call a function. Never raises, but for an interruption from the keyboard."""
        layout = with_gaps if self.gaps else np.array
        weight, gram = layout(self.weight), layout(self.gram)
        try:
            with np.errstate(all="ignore"):
                returned = function(
                    weight, gram, self.pattern, self.block_size, self.damping, **self.options
                )
        except ValueError as error:
            return _refused(error)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too must not end the process
            return Failed("output", f"raised {_described(error)}")
        if not (_same(weight, self.weight) and _same(gram, self.gram)):
            return Failed("input", "the arrays that it was given were changed")
        try:
            return self.read(returned)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return Failed("output", f"what it returned cannot be read: {_described(error)}")

    def read(self, returned: object) -> Answer:
        """Check the types and shapes of what a function returned."""
        if not isinstance(returned, tuple | list) or len(returned) not in (2, 3):
            return Failed(
                "output",
                f"it must return (weight, mask) or these and losses, got {_kind(returned)}",
            )
        arrays: list[Tensor] = []
        for name, part in zip(PARTS, returned, strict=False):
            try:
                if isinstance(part, np.ma.MaskedArray):
                    raise TypeError("what is masked would be lost")
                arrays.append(np.asarray(part))
            except Exception as error:
                why = f"{name} must be an array, got {_kind(part)}: {_described(error)}"
                return Failed("output", why)
        return self._checked(*arrays)

    def _checked(self, weight: Tensor, mask: Tensor, losses: Tensor | None = None) -> Answer:
        if weight.dtype != self.weight.dtype:
            return Failed("output", f"weight must be {self.weight.dtype}, got {weight.dtype}")
        if mask.dtype != np.bool_:
            return Failed("output", f"mask must be bool, got {mask.dtype}")
        if losses is not None and losses.dtype.kind not in "fiu":
            return Failed("output", f"block_losses must be real numbers, got {losses.dtype}")
        wrong = wrong_shape(self.weight.shape, Output(weight, mask, losses))
        if wrong:
            return wrong
        if losses is not None and losses.size > max(self.weight.shape):
            return Failed("output", f"block_losses has {losses.size} numbers, more than columns")
        if self.options.get("storage") == "bfloat16":
            bits = np.ascontiguousarray(weight).view(np.uint32)
            if (bits & 0xFFFF).any():
                return Failed("output", "weight must be rounded to bfloat16, got more bits")
        return Output(weight, mask, None if losses is None else losses.astype(np.float64))


def with_gaps(matrix: Tensor) -> Tensor:
    """The same matrix in column-major order with an unused entry after every one."""
    roomy = np.zeros(tuple(2 * size for size in reversed(matrix.shape)), dtype=matrix.dtype)
    view = roomy[tuple(slice(None, None, 2) for _ in matrix.shape)].T
    view[...] = matrix
    return view


def answer_to_bytes(answer: Answer) -> bytes:
    """An answer as the content of a safetensors file."""
    if isinstance(answer, Output):
        parts = (answer.weight, answer.mask, answer.block_losses)
        tensors = {n: part for n, part in zip(PARTS, parts, strict=True) if part is not None}
        return encode_tensors(tensors, {"answer": "output"})
    if isinstance(answer, Refused):
        return encode_tensors({}, {"answer": "refused", "message": answer.message})
    return encode_tensors({}, {"answer": answer.check, "message": answer.message})


def answer_from_bytes(call: Call, content: bytes) -> Answer:
    """Read an answer from a process that is not trusted. Raises ValueError if it is malformed."""
    found = parse_tensors(content)
    kind, message = found.metadata.get("answer"), found.metadata.get("message", "")
    if kind == "refused":
        return Refused(message[:MAX_MESSAGE])
    if kind == "input":
        return Failed("input", message[:MAX_MESSAGE])
    if kind != "output" or message:
        return Failed("output", message[:MAX_MESSAGE])
    return call.read([found[name] for name in PARTS if name in found])


def _same(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and left.tobytes() == right.tobytes()


def _refused(error: ValueError) -> Answer:
    try:
        message = str(error)
    except Exception:
        return Failed("output", f"raised {_described(error)}")
    if len(message) > MAX_MESSAGE:
        return Failed("output", f"refused with a message of {len(message)} characters")
    return Refused(message)


def _described(error: BaseException) -> str:
    """The type and the text of an error, whose text may not be readable itself."""
    try:
        text = str(error)[:500]
    except Exception:
        text = "its text cannot be read"
    return f"{type(error).__name__}: {text}"


def _kind(thing: object) -> str:
    size = f" of {len(thing)}" if isinstance(thing, tuple | list) else ""
    return f"{type(thing).__name__}{size}"
