"""Results of the cost study that were never measured: what known coefficients say."""

from dataclasses import asdict
from typing import Any

from verification.benchmarks.performance.cases import (
    METHODS,
    UNSTRUCTURED,
    Cell,
    GramCell,
    LayerCell,
    PassCell,
    PeakCell,
    full,
)
from verification.benchmarks.performance.cost import gathered
from verification.benchmarks.performance.cost_model import (
    CostModel,
    Steps,
    gram_work,
    pass_work,
    predicted_layer,
)
from verification.benchmarks.performance.laws import (
    COUNTS,
    GRAM_LAW,
    LAST_STEPS_LAW,
    PASS_LAW,
    STEPS_LAW,
    Work,
    certificate_law,
    law,
    memory_law,
    stages_of,
)

PEAK = 1e15  # faster than any coefficient here
THREADS = 2


def tiny() -> list[Cell]:
    """A plan of seconds: layers of a few columns, and passes last, for which much is imported."""
    return [
        PeakCell(64),
        *(
            LayerCell(b, b, method, UNSTRUCTURED, b == 48)
            for b in (16, 32, 48)
            for method in METHODS
        ),
        *(LayerCell(b, b, "thanos", UNSTRUCTURED, b == 48, 8) for b in (16, 32, 48)),
        *(GramCell(b, 64, b == 48) for b in (16, 32, 48)),
        *(PassCell(h, 2 * h, 16, h == 96) for h in (32, 64, 96)),
    ]


def known() -> CostModel:
    """Coefficients for every law of the plan: each term takes a like share of a large layer."""
    middle = Work(1024, 1024, 128, "structured:0.3", 8, 8, 10, 2048, 2**22, 2**14)
    laws: dict[str, tuple[str, ...]] = dict([GRAM_LAW, PASS_LAW])
    for cell in full():
        if isinstance(cell, LayerCell):
            asked = cell.method, cell.pattern, cell.refit_steps
            stages = stages_of(*asked)
            laws |= dict(law(stage, cell.method, cell.pattern) for stage in stages)
            laws |= dict([certificate_law(*asked), memory_law(*asked)])
    coefficients = {
        name: {
            term: (number + 1) * (1e8 if name.startswith("memory") else 0.01) / COUNTS[term](middle)
            for number, term in enumerate(terms)
        }
        for name, terms in laws.items()
    }
    steps = {
        STEPS_LAW[0]: {"constant": 3.0, "width / rest": 9.0},
        LAST_STEPS_LAW[0]: {"constant": 20.0, "last block / b": 20.0},
    }
    return CostModel({**coefficients, **steps}, THREADS)


def results(model: CostModel, held_out_factor: float = 1.0) -> dict[str, Any]:
    """What the plan would measure if the model were the truth; times it on held-out sizes."""
    records = []
    for cell in full():
        if isinstance(cell, LayerCell):
            record = _layer(model, cell, held_out_factor)
        elif isinstance(cell, GramCell):
            facts = {"columns": cell.columns, "tokens": cell.tokens}
            record = {"seconds": model.value(GRAM_LAW, gram_work(facts))}
        elif isinstance(cell, PassCell):
            facts = {"weights": cell.hidden * cell.intermediate, "widths": 9 * cell.hidden}
            work = pass_work({**facts, "hidden": cell.hidden, "tokens": cell.tokens})
            record = {**facts, "seconds": model.value(PASS_LAW, work)}
        elif cell.kind == "peak":
            record = {"operations_per_second": PEAK}
        else:
            continue
        records.append((cell, {"passed": True, "yardstick_seconds": 1.0, **record}))
    return {
        "study": "cost", "profile": "standard", "command": "thanos bench cost", "commit": "0" * 12,
        "date": "2026-01-01T00:00:00", "versions": {"torch": "2"}, "machine": "none",
        "settings": {"threads": THREADS, "base": 1024,
                     "calibration": {"windows": 128, "length": 2048}},
        "wall_seconds": 60.0, "yardstick_seconds": [1.0] * 20, "tries": [1] * 20,
        **gathered(records),
    }  # fmt: skip


def _layer(model: CostModel, cell: LayerCell, held_out_factor: float) -> dict[str, Any]:
    run = {name: getattr(cell, name) for name in ("method", "pattern", "block_size", "refit_steps")}
    said = predicted_layer(model, run, (cell.rows, cell.columns))
    factor = held_out_factor if cell.held_out else 1.0
    return {
        "name": f"{cell.rows} x {cell.columns}",
        "shape": [cell.rows, cell.columns],
        "held_out": cell.held_out,
        "seconds": factor * said["pruning"],
        "stages": said["stages"],
        "certificate_seconds": said["certificate"],
        "peak_memory_bytes": said["memory"],
        "repeats": [factor * said["pruning"]] * 3,
        "spread": 0.0,
        "steps": asdict(
            model.steps(cell.columns, cell.block_size)
            if cell.method == "thanos" and cell.pattern != "structured:0.3"
            else Steps()
        ),
    }
