"""The mutants that are judged: those in equation code that pruning calls."""

from collections.abc import Sequence

from verification.mutants.mutant import Mutant, mutants_of
from verification.mutants.package import sources

MODULES = ("update", "masks", "thanos", "problem", "losses", "baselines", "patterns", "inputs")
# Functions that pruning never calls, and that are not mutated, with the tests that cover them.
NOT_JUDGED = {
    ("problem", "Gram"): "cases come with G: tests/reference and tests/properties",
    ("problem", "objective"): "no output of an implementation: tests/reference and T4",
    ("patterns", "Ablation.changed"): "for records and baselines: tests/reference/test_switches.py",
    ("patterns", "refuse_switches"): "baselines take none: tests/reference/test_switches.py",
    ("inputs", "check_same_shape"): "called by `objective` and `refit` only",
    ("patterns", "_decimal"): "the text form, for people: tests/reference/test_patterns.py",
    ("patterns", "_outlier_text"): "the text form, for people: tests/reference/test_patterns.py",
}


def selected(modules: Sequence[str]) -> list[Mutant]:
    """All judged mutants of some modules. Raises ValueError for an unknown module."""
    texts = sources()
    for module in modules:
        if module not in texts or module == "__init__":
            raise ValueError(f"modules must be among {', '.join(MODULES)}, got {module!r}")
    found = [mutant for module in modules for mutant in mutants_of(module, texts[module])]
    return [mutant for mutant in found if is_judged(mutant)]


def is_judged(mutant: Mutant) -> bool:
    """Whether a mutant is in code that pruning calls."""
    return not any(
        mutant.module == module and f"{mutant.function}.".startswith(f"{function}.")
        for module, function in NOT_JUDGED
    )
