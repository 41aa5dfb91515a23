"""Cases that tests make in memory, instead of reading them from the vectors."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verification.conformance.cases import Case, metadata_of
from verification.conformance.tensors import TYPES, Tensor, TensorFile, write_tensors


class MadeCase(Case):
    """A case that holds its input in memory."""

    @cached_property
    def input(self) -> TensorFile:
        """Set by `made_case`."""
        raise NotImplementedError

    @cached_property
    def layer(self) -> str:
        """Python code that makes exactly this `weight` and `gram`."""
        return (
            "import numpy as np\n"
            f"weight = {_as_python(self.weight)}\n"
            f"gram = {_as_python(self.gram)}"
        )

    def as_python(self) -> str:
        """Python code that makes `case`."""
        given = (self.id, self.method, self.pattern, self.block_size, self.damping, self.storage)
        name, method, pattern, block_size, damping, storage = map(repr, given)
        return (
            "from verification.conformance.made import made_case\n"
            f"{self.layer}\n"
            f"case = made_case(weight, gram, {pattern}, method={method}, block_size={block_size},\n"
            f"                 damping={damping}, storage={storage}, name={name})"
        )

    def write_input(self, path: str | Path) -> None:
        """Write the input file that a program gets."""
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
    """Make a case from a layer; its dtype is that of `gram`.

    weight     (c, b); gram  (b, b)
    pattern    a pattern or its text form
    mask       (c, b), the expected mask, if it is known
    exact      (c, b), the expected weights, rounded once; needs `condition`
    condition  condition number of H, which says how close right code comes to `exact`
    layer      Python code that makes `weight` and `gram`; by default it lists all numbers
    refused    for an input that must be refused: words of which the message must hold one

    Raises ValueError if only one of `exact` and `condition` is given.
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
    types = {name: TYPES.get(array.dtype.name, "I64") for name, array in
             (("weight", weight), ("gram", gram))}  # fmt: skip
    if storage:
        types["weight"] = TYPES[storage]
    metadata = metadata_of(method, pattern, block_size, damping, dtype, storage)
    given = TensorFile(types, metadata)
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


def remade(case: Case, **changes: Any) -> Case:
    """The input of a case, made anew with `changes`, arguments of `made_case`."""
    arguments: dict[str, Any] = {
        "weight": case.weight,
        "gram": case.gram,
        "pattern": case.pattern,
        "method": case.method,
        "block_size": case.block_size,
        "damping": case.damping,
        "storage": case.storage,
        "name": case.id,
    }
    return made_case(**{**arguments, **changes})


def _as_python(array: Tensor) -> str:
    """The array as a Python expression."""
    with np.printoptions(threshold=array.size + 1, linewidth=96, floatmode="unique"):
        rows = np.array2string(array, separator=", ", prefix="np.array(")
    special = {"nan": "np.nan", "inf": "np.inf"}
    for word, name in special.items():
        rows = rows.replace(word, name)
    return f"np.array({rows}, dtype={array.dtype.name!r})"
