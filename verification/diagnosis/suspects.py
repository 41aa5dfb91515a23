"""Everything that may be to blame for an output."""

from collections.abc import Iterator

import reference
from verification.diagnosis.baseline_suspects import of_baselines
from verification.diagnosis.evidence import Array, Evidence, Mask
from verification.diagnosis.suspect import Suspect
from verification.diagnosis.thanos_suspects import of_thanos

METHODS = ("thanos", "magnitude", "wanda", "sparsegpt")


def suspects(e: Evidence) -> Iterator[Suspect]:
    """All of them, the likelier first: where two explain an output, the first does."""
    yield from of_thanos(e) if e.method == "thanos" else of_baselines(e)
    yield from _other_methods(e)


def _other_methods(e: Evidence) -> Iterator[Suspect]:
    if getattr(e.pattern, "outlier_rows", 0):
        return
    for method in METHODS:
        if method != e.method:
            yield Suspect("another-method", "section 6", f"this is what {method} does",
                          lambda method=method: _by_reference(e, method))  # type: ignore[misc]  # fmt: skip


def _by_reference(e: Evidence, method: str) -> tuple[Array, Mask]:
    pruned = getattr(reference, method)(
        e.weight, e.gram, e.pattern, block_size=e.block_size, damping=e.damping
    )
    return pruned.weight, pruned.mask
