"""The trials of a mutant, in order; those that kill most mutants come first."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from types import ModuleType
from typing import Any

import numpy as np

from reference.patterns import SWITCHES, Pattern, parse_pattern
from verification.catalogue import HardInput, catalogue
from verification.certificate import certify, failed
from verification.conformance.builtin import adapted
from verification.conformance.callables import PythonFunction
from verification.conformance.capabilities import pattern_kinds
from verification.conformance.cases import Case, load_cases
from verification.conformance.judge import judge
from verification.vectors.close import close_scores

# Catalogue entries that kill most mutants; the others follow.
TELLING = (13, 5, 17, 3)
APART = 4  # on this entry the two outlier scores choose different rows
ABLATIONS: tuple[dict[str, Any], ...] = tuple(
    {name: choice} for name, choices in SWITCHES.items() for choice in choices[1:]
)


@dataclass(frozen=True)
class Trial:
    """One input with its judgement.

    name  id of a case, or of an input with a switch
    run   takes the package under trial; returns the names of the failed checks
    """

    name: str
    run: Callable[[ModuleType], tuple[str, ...]]


def trials() -> tuple[Trial, ...]:
    """All cases of the vectors, and inputs with the switches of `thanos`."""
    first, others = ordered(load_cases())
    return (*map(_case, first), *_switches(), *map(_case, others))


def ordered(cases: Sequence[Case]) -> tuple[list[Case], list[Case]]:
    """One case of every method and pattern with all refusals; then the rest, taking turns."""
    refusals = [case for case in cases if case.expected == "refusal"]
    groups: dict[object, list[Case]] = {}
    for case in sorted(set(cases) - set(refusals), key=_rank):
        groups.setdefault((case.method, pattern_kinds(case.pattern)), []).append(case)
    first, *others = zip_longest(*groups.values())
    rest = [case for turn in others for case in turn if case is not None]
    return [*first, *refusals], rest


def _rank(case: Case) -> tuple[int, int, str]:
    numbers = [f"-{number:02d}-" in case.id for number in TELLING]
    precision = ("float64", "float32", "float16", "bfloat16").index(case.storage or case.dtype)
    place = numbers.index(True) if True in numbers else len(numbers) + ("large" in case.flags)
    return precision, place, case.id


def _case(case: Case) -> Trial:
    case.input, case.answer  # noqa: B018  # read the files once, before mutants are forked

    def run(package: ModuleType) -> tuple[str, ...]:
        function = PythonFunction(adapted(package), "thanos", "mutant")
        verdict = judge(case, function)
        assert not verdict.unsupported, verdict.unsupported
        return tuple(check.name for check in verdict.failures)

    return Trial(case.id, run)


def _switches() -> list[Trial]:
    """Inputs with the ablation switches of `thanos`, which no case has; certificates judge them."""
    known = {entry.number: entry for entry in catalogue("float64")}
    found = [
        _switch(layer, pattern, switch)
        for layer in (*(known[number] for number in (*TELLING, APART)), _close_scores())
        for switch in ABLATIONS
        for pattern in layer.patterns()
    ]
    return [*found, *(_unknown(argument) for argument in SWITCHES)]


def _close_scores() -> HardInput:
    """A layer whose scores are the same in float32, under every metric."""
    close = next(close_scores())
    return HardInput(0, "close scores", close.weight, close.gram, close.damping, close.block_size)


def _switch(layer: HardInput, pattern: Pattern, switch: dict[str, Any]) -> Trial:
    options: dict[str, Any] = {"block_size": layer.block_size, "damping": layer.damping, **switch}

    def run(package: ModuleType) -> tuple[str, ...]:
        try:
            with np.errstate(all="ignore"):
                pruned = package.thanos(
                    layer.weight, layer.gram, package.parse_pattern(str(pattern)), **options
                )
        except Exception:
            return ("output",)
        certificate = certify(
            layer.weight,
            layer.gram,
            pruned.weight,
            pattern,
            mask=pruned.mask,
            block_losses=pruned.block_losses,
            **options,
        )
        return tuple(check.name for check in failed(certificate.checks))

    words = "".join(f"-{key}-{value}" for key, value in switch.items())
    return Trial(f"switch{words}-{layer}-{pattern}", run)


def _unknown(argument: str) -> Trial:
    def run(package: ModuleType) -> tuple[str, ...]:
        try:
            package.thanos([[1.0]], [[1.0]], parse_pattern("1:1"), **{argument: "unheard-of"})
        except ValueError as error:
            return () if argument in str(error) else ("refusals",)
        except Exception:
            return ("output",)
        return ("refusals",)

    return Trial(f"switch-{argument}-unheard-of", run)
