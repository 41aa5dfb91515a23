"""Results of the cost study that were never measured: what known coefficients say."""

from typing import Any

from verification.benchmarks.performance.cases import (
    PATTERNS,
    UNSTRUCTURED,
    Cell,
    GramCell,
    LayerCell,
    PassCell,
    full,
)
from verification.benchmarks.performance.cost import gathered
from verification.benchmarks.performance.cost_model import (
    Model,
    gram_work,
    label,
    layer_work,
    memory_work,
    name_of,
    pass_work,
    predicted,
)

TERMS = {
    "pruning": {"c b²": 2e-11, "b³": 1e-11, "c b": 5e-9, "b²": 2e-9, "b": 1e-6, "1": 1e-4},
    "memory": {"c b": 8.0, "b²": 6.0, "part": 40.0, "1": 1e5},
    "gram": {"tokens b²": 8e-12, "tokens b": 1e-9},
    "pass": {"tokens weights": 2e-11, "tokens² b": 5e-12},
}


def tiny() -> list[Cell]:
    """A plan of seconds: layers of a few columns, and passes last, for which much is imported."""
    return [
        *(
            LayerCell(b, b, method, pattern, b == 48)
            for b in (16, 32, 48)
            for pattern in PATTERNS
            for method in ("sparsegpt", "thanos")
        ),
        *(LayerCell(b, b, "thanos", UNSTRUCTURED, b == 48, refit_steps=10) for b in (16, 32, 48)),
        *(GramCell(b, 64, b == 48) for b in (16, 32, 48)),
        *(PassCell(h, 2 * h, 16, h == 96) for h in (32, 64, 96)),
    ]


def options(cell: LayerCell) -> dict[str, Any]:
    """The options of a run as results files have them."""
    names = ("method", "pattern", "block_size", "refit_steps")
    return {name: getattr(cell, name) for name in names}


def known() -> Model:
    """Coefficients for everything in the plan: each run costs a little more than the one before."""
    labels = {label(options(cell)) for cell in full() if isinstance(cell, LayerCell)}
    model = {name: TERMS[name] for name in ("gram", "pass")}
    for number, run in enumerate(sorted(labels)):
        for quantity in ("pruning", "memory"):
            each = {term: x * (1 + 0.1 * number) for term, x in TERMS[quantity].items()}
            model[name_of(quantity, run)] = each
    return model


def results(model: Model, held_out_factor: float = 1.0) -> dict[str, Any]:
    """What the plan would measure if the model were the truth; times it on held-out sizes."""
    records: list[tuple[Cell, dict[str, Any]]] = []
    for cell in full():
        if isinstance(cell, LayerCell):
            record = _layer(model, cell, held_out_factor)
        elif isinstance(cell, GramCell):
            record = {"seconds": predicted(model, "gram", gram_work(cell.tokens, cell.columns))}
        elif isinstance(cell, PassCell):
            weights = cell.hidden * cell.intermediate
            work = pass_work(cell.tokens, weights, cell.hidden)
            record = {"weights": weights, "seconds": predicted(model, "pass", work)}
        else:
            continue
        records.append((cell, {"passed": True, **record}))
    return {
        "study": "cost", "profile": "standard", "command": "thanos bench cost", "commit": "0" * 12,
        "date": "2026-01-01T00:00:00", "versions": {"torch": "2"}, "machine": "none",
        "yardstick_seconds": [1.0] * 20, **gathered(records),
    }  # fmt: skip


def _layer(model: Model, cell: LayerCell, held_out_factor: float) -> dict[str, Any]:
    shape, run = (cell.rows, cell.columns), label(options(cell))
    seconds = predicted(model, "pruning", layer_work(*shape), run)
    seconds *= held_out_factor if cell.held_out else 1.0
    return {
        "name": f"{cell.rows} x {cell.columns}",
        "shape": [*shape],
        "held_out": cell.held_out,
        "seconds": seconds,
        "repeats": [seconds] * 3,
        "peak_memory_bytes": predicted(model, "memory", memory_work(*shape), run),
    }
