"""All fresh cases of a seed, in a fixed order."""

from collections.abc import Iterator
from random import Random

from verification.conformance.cases import Case, load_cases
from verification.fresh.drawn import drawn_case
from verification.fresh.layers import Layer, layers
from verification.fresh.moved import moved
from verification.fresh.refusals import refusals


def fresh_cases(seed: int) -> tuple[Case, ...]:
    """Drawn layers, vectors moved by T7, and drawn refusals."""
    return tuple(_all(seed))


def fresh_case(name: str, seed: int) -> Case:
    """The fresh case with an id. Raises ValueError if there is none."""
    for case in fresh_cases(seed):
        if case.id == name:
            return case
    raise ValueError(f"case must be the id of a fresh case, got {name!r}")


def _all(seed: int) -> Iterator[Case]:
    for layer in layers():
        yield drawn_case(layer.case(_rng(seed, layer)), seed, exact=layer.tiny)
    known = sorted(load_cases(), key=lambda case: case.id)
    yield from moved(known, seed)
    yield from refusals(seed)


def _rng(seed: int, layer: Layer) -> Random:
    """Numbers that depend on nothing but the seed and the name of the layer."""
    return Random(f"{seed}/{layer.id}")
