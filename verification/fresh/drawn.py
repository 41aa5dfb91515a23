"""A case that was drawn: its exact answer is computed when somebody asks for it."""

from dataclasses import fields
from functools import cached_property
from typing import Any

import numpy as np

from reference.patterns import parse_pattern
from verification.conformance.cases import Case
from verification.conformance.made import MadeCase
from verification.conformance.tensors import TensorFile
from verification.exact import exact_prune
from verification.vectors.expected import condition_of, is_certain, rounded_once


class DrawnCase(MadeCase):
    """A made case that is repeated by its id and a seed."""

    seed: int
    exact: bool

    @cached_property
    def answer(self) -> TensorFile:
        """The exact answer if right code must find it; empty otherwise."""
        if not self.exact:
            return TensorFile({}, {})
        assert self.condition is not None
        return exact_answer(self, self.condition)

    def as_python(self) -> str:
        """Python code that makes `case`."""
        return (
            "from verification.fresh import fresh_case\n"
            f"case = fresh_case({self.id!r}, seed={self.seed})"
        )


def drawn_case(case: Case, seed: int, *, exact: bool = False, **changes: Any) -> DrawnCase:
    """The case as one that `fresh_case` makes; `changes` are fields of it.

    exact  whether it is small enough for an exact answer
    """
    if exact:
        changes["condition"] = condition_of(case.gram, case.damping)
    known = {field.name: getattr(case, field.name) for field in fields(case)}
    drawn = DrawnCase(**{**known, **changes})
    drawn.__dict__.update(input=case.input, seed=seed, exact=exact)
    return drawn


def exact_answer(case: Case, condition: float) -> TensorFile:
    """Mask and weight in exact arithmetic; empty if rounding may lead to others.

    condition  the condition number of H
    """
    found = TensorFile({}, {})
    exact = exact_prune(
        case.weight,
        case.gram,
        parse_pattern(case.pattern),
        method=case.method,
        block_size=int(case.block_size),
        damping=case.damping,
    )
    if is_certain(exact, case.method, case.dtype, condition):
        found.update(mask=np.array(exact.mask), weight=rounded_once(exact))
    return found
