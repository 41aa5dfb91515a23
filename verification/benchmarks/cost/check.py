"""Predictions against measurements: on the sizes that were fitted, and on those that were not."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from statistics import median
from typing import Any

from verification.benchmarks.cost.laws import GRAM_LAW, PASS_LAW, SOLVER
from verification.benchmarks.cost.model import (
    CostModel,
    Steps,
    gram_work,
    laws_of,
    least_bytes,
    pass_work,
    stage_laws,
    work_of,
)

# The median and the largest relative error that a model may make on sizes it was not fitted to,
# to be called checked. Good enough to plan by: one hour or two, a small node or a large one.
BOUNDS: dict[str, tuple[float, float]] = {
    "pruning": (0.2, 0.5),
    "certificate": (0.2, 0.5),
    "memory": (0.1, 0.3),
    "gram": (0.2, 0.5),
    "pass": (0.2, 0.5),
}
NAMES = {
    "pruning": "seconds of pruning a layer",
    "certificate": "seconds of certifying it",
    "memory": "most bytes while pruning it",
    "gram": "seconds of adding tokens to a Gram matrix",
    "pass": "seconds of a decoder block's forward pass",
}


NONE = Steps()


def predicted_layer(
    model: CostModel,
    run: Mapping[str, Any],
    shape: Iterable[int],
    least: Steps = NONE,
    taken: Steps | None = None,
) -> dict[str, Any]:
    """What the model says of a layer, (c, b): seconds by stage, of the certificate, and bytes.

    least  the least steps of the solver, whatever the model says
    taken  its steps, whatever the model says
    """
    rows, columns = shape
    laws, steps = stage_laws(run), NONE
    if ("solve", SOLVER) in ((stage, name) for stage, (name, _) in laws.items()):
        said = model.steps(columns, run["block_size"])
        steps = taken or Steps(max(least.before, said.before), max(least.last, said.last))
    work = work_of(run, (rows, columns), steps, model.threads)
    stages = {stage: model.value(known, work) for stage, known in laws.items()}
    certificate, memory = laws_of(run)
    return {
        "stages": stages,
        "pruning": sum(stages.values()),
        "certificate": model.value(certificate, work),
        "memory": max(model.value(memory, work), least_bytes(run, work)),
    }


def comparisons(results: Mapping[str, Any], model: CostModel) -> list[dict[str, Any]]:
    """Every certified measurement beside its prediction; `error` is relative to the measured."""
    return [
        {**each, "error": each["predicted"] / each["measured"] - 1}
        for each in _pairs(results, model)
    ]


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """By quantity and role: how many, the median and the worst of |error|, and where."""
    groups: dict[str, dict[str, Any]] = defaultdict(dict)
    for quantity in BOUNDS:
        for role, held_out in (("fitted", False), ("held out", True)):
            some = [e for e in found if e["quantity"] == quantity and e["held_out"] == held_out]
            if some:
                worst = max(some, key=lambda each: abs(each["error"]))
                groups[quantity][role] = {
                    "count": len(some),
                    "median": median(abs(each["error"]) for each in some),
                    "worst": abs(worst["error"]),
                    "where": worst["what"],
                }
    return dict(groups)


def checked(errors: Mapping[str, Any], quantity: str) -> bool:
    """Whether the held-out errors keep their bound; never without held-out sizes."""
    seen = errors.get(quantity, {}).get("held out")
    middle, most = BOUNDS[quantity]
    return bool(seen) and seen["median"] <= middle and seen["worst"] <= most


def _pairs(results: Mapping[str, Any], model: CostModel) -> Iterator[dict[str, Any]]:
    for each in results["runs"]:
        run = each["run"]
        for layer in each["layers"]:
            if not layer["passed"]:
                continue
            said = predicted_layer(model, run, layer["shape"])
            for quantity, measured in (
                ("pruning", layer["seconds"]),
                ("certificate", layer["certificate_seconds"]),
                ("memory", layer["peak_memory_bytes"]),
            ):
                yield {
                    "quantity": quantity,
                    "run": run,
                    "what": f"{label(run)}, {layer['name']}",
                    "held_out": layer["held_out"],
                    "measured": measured,
                    "predicted": said[quantity],
                }
    for known, kind, make in ((GRAM_LAW, "gram", gram_work), (PASS_LAW, "pass", pass_work)):
        for record in results[kind]:
            if record["passed"]:
                work = make(record)
                yield {
                    "quantity": kind,
                    "run": None,
                    "what": f"{work.columns} columns, {work.tokens} tokens",
                    "held_out": record["held_out"],
                    "measured": record["seconds"],
                    "predicted": model.value(known, work),
                }


def label(run: Mapping[str, Any]) -> str:
    """A run's options for people."""
    refit = f" + refit {run['refit_steps']}" if run["refit_steps"] else ""
    width = f", B = {run['block_size']}" if run["block_size"] != 128 else ""
    return f"{run['method']}{refit}, {run['pattern']}{width}"
