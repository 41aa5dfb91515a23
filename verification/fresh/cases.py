"""All fresh cases of a seed, in a fixed order. A case is drawn when it is needed."""

from collections.abc import Callable, Iterator
from functools import partial

from verification.conformance.cases import Case, load_cases
from verification.fresh import layers, moved, refusals


def fresh_cases(seed: int, only: str = "") -> tuple[Case, ...]:
    """Drawn layers, vectors moved by T7, and drawn refusals, with `only` in their ids."""
    return tuple(draw() for name, draw in _planned(seed) if only in name)


def fresh_ids(seed: int) -> tuple[str, ...]:
    """The ids of all fresh cases."""
    return tuple(name for name, _ in _planned(seed))


def possible_ids() -> frozenset[str]:
    """The ids that fresh cases have with any seed."""
    moving = (moved.name_of(case) for case in moved.candidates(load_cases()))
    return frozenset(fresh_ids(0)).union(moving)


def fresh_case(name: str, seed: int) -> Case:
    """The fresh case with an id. Raises ValueError if there is none."""
    for planned, draw in _planned(seed):
        if planned == name:
            return draw()
    raise ValueError(f"case must be the id of a fresh case of seed {seed}, got {name!r}")


def _planned(seed: int) -> Iterator[tuple[str, Callable[[], Case]]]:
    """(id, what draws the case) for every case."""
    for layer in layers.layers():
        yield layer.id, partial(layer.case, seed)
    for case in moved.chosen(load_cases(), seed):
        yield moved.name_of(case), partial(moved.moved_case, case, seed)
    for refusal in refusals.refusals():
        yield refusal.id, partial(refusal.case, seed)
