"""Cases that are made on the spot, for property tests: no file, and no expected answer."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verification.conformance.cases import Case
from verification.conformance.tensors import Tensor, TensorFile, write_tensors

_TYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}


class MadeCase(Case):
    """A case that holds its input; it is judged by its certificate."""

    @cached_property
    def input(self) -> TensorFile:
        """Filled in by `made_case`."""
        raise NotImplementedError

    @cached_property
    def layer(self) -> str:
        """Lines of Python that make `weight` and `gram`, exactly."""
        return (
            "import numpy as np\n"
            f"weight = {_as_python(self.weight)}\n"
            f"gram = {_as_python(self.gram)}"
        )

    def as_python(self) -> str:
        """Lines that make `case` again."""
        given = (self.id, self.method, self.pattern, self.block_size, self.damping, self.storage)
        name, method, pattern, block_size, damping, storage = map(repr, given)
        return (
            "from verification.conformance.made import made_case\n"
            f"{self.layer}\n"
            f"case = made_case(weight, gram, {pattern}, method={method}, block_size={block_size},\n"
            f"                 damping={damping}, storage={storage}, name={name})"
        )

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
    exact: Tensor | None = None,
    condition: float | None = None,
    layer: str | None = None,
    refused: tuple[str, ...] = (),
) -> Case:
    """A case out of a layer; its dtype is that of `gram`.

    pattern  a pattern, or its text form
    mask     (c, b), the expected one, where it is known
    exact    (c, b), the expected weights, rounded once; with `condition`, the condition number
             of H, which says how close right code comes
    layer    lines of Python that make `weight` and `gram`, if not those that list all numbers
    refused  for an input that has to be refused: the words of which one must be named
    """
    if (exact is None) != (condition is None):
        raise ValueError(f"condition must be given with exact, and only then, got {condition!r}")
    dtype = gram.dtype.name
    known = "certificate" if mask is None else "mask" if exact is None else "weights"
    case = MadeCase(
        name,
        "refusal" if refused else known,
        method,
        str(pattern),
        dtype,
        storage,
        condition=condition,
        flags=(),
        names=refused,
        values=(),
        folder=Path(),
    )
    types = {name: _TYPES.get(array.dtype.name, "I64") for name, array in
             (("weight", weight), ("gram", gram))}  # fmt: skip
    if storage:
        types["weight"] = _TYPES[storage]
    given = TensorFile(
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
    answer = TensorFile({}, {})
    if mask is not None:
        answer["mask"] = mask
    if exact is not None:
        answer["weight"] = exact
    # A frozen dataclass keeps what `cached_property` would have computed.
    case.__dict__.update(input=given, answer=answer)
    if layer:
        case.__dict__["layer"] = layer
    return case


def _as_python(array: Tensor) -> str:
    """As an expression."""
    with np.printoptions(threshold=array.size + 1, linewidth=96, floatmode="unique"):
        rows = np.array2string(array, separator=", ", prefix="np.array(")
    special = {"nan": "np.nan", "inf": "np.inf"}
    for word, name in special.items():
        rows = rows.replace(word, name)
    return f"np.array({rows}, dtype={array.dtype.name!r})"
