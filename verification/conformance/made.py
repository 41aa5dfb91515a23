"""Cases that are made on the spot, for property tests: no file, and no expected answer."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verification.conformance.cases import Case
from verification.conformance.tensors import Tensor, Tensors, write_tensors

_TYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}


class MadeCase(Case):
    """A case that holds its input; it is judged by its certificate."""

    @cached_property
    def input(self) -> Tensors:
        """Filled in by `made_case`."""
        raise NotImplementedError

    def write_input(self, path: Path) -> None:
        """The file that a program gets."""
        write_tensors(path, self.input, self.input.metadata, self.input.types)


def made_case(
    weight: NDArray[np.floating[Any]],
    gram: NDArray[np.floating[Any]],
    pattern: object,
    *,
    method: str = "thanos",
    block_size: float = 128,
    damping: float = 0.01,
    storage: str | None = None,
    name: str = "made",
    mask: Tensor | None = None,
    refused: tuple[str, ...] = (),
) -> Case:
    """A case out of a layer; its dtype is that of `gram`.

    pattern  a pattern, or its text form
    mask     (c, b), the expected one, where it is known
    refused  for an input that has to be refused: the words of which one must be named
    """
    dtype = gram.dtype.name
    expected = "refusal" if refused else "certificate" if mask is None else "mask"
    case = MadeCase(
        name,
        expected,
        method,
        str(pattern),
        dtype,
        storage,
        condition=None,
        flags=(),
        names=refused,
        values=(),
        folder=Path(),
    )
    types = {name: _TYPES.get(array.dtype.name, "I64") for name, array in
             (("weight", weight), ("gram", gram))}  # fmt: skip
    if storage:
        types["weight"] = _TYPES[storage]
    given = Tensors(
        types,
        {
            "id": name,
            "method": method,
            "pattern": str(pattern),
            "block_size": str(block_size),
            "damping": repr(damping),
            "dtype": dtype,
            "storage": storage or "none",
        },
    )
    given.update({"weight": weight, "gram": gram})
    answer = Tensors({}, {})
    if mask is not None:
        answer["mask"] = mask
    # A frozen dataclass keeps what `cached_property` would have computed.
    case.__dict__.update(input=given, answer=answer)
    return case
