"""The cost model: its fit to measured cells, its predictions, and its errors on held-out cells."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from verification.benchmarks.performance.laws import (
    COUNTS,
    GRAM_LAW,
    LAST_STEPS_LAW,
    PASS_LAW,
    PRODUCTS,
    SOLVER,
    STEPS_LAW,
    Work,
    certificate_law,
    factor_bytes,
    law,
    memory_law,
    needs_inverse,
    stages_of,
)

Law = tuple[str, tuple[str, ...]]
Point = tuple[Law, Work, float]  # one fitted measurement: its law, its work, its value
# The median and the largest relative error on held-out sizes up to which a model is called checked:
# good enough to plan by (one hour or two, a small node or a large one).
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


@dataclass(frozen=True)
class Steps:
    """Solver steps in a block of a layer: the mean over all but the last block, and in the last."""

    before: float = 0.0
    last: float = 0.0


NONE = Steps()


@dataclass(frozen=True)
class CostModel:
    """Coefficients of each law: seconds, bytes or steps for each unit of each count.

    threads  number of threads on the measured machine
    """

    coefficients: dict[str, dict[str, float]]
    threads: int

    def as_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "CostModel":
        """The inverse of `as_dict`."""
        return cls(**stored)

    def value(self, known: Law, work: Work) -> float:
        """The prediction of a law. Raises ValueError if the law was not fitted."""
        name, _ = known
        if name not in self.coefficients:
            raise ValueError(f"the cost model has no law {name!r}: nothing of it was measured")
        terms = self.coefficients[name]
        return sum(each * COUNTS[term](work) for term, each in terms.items())

    def steps(self, columns: int, block_size: int) -> Steps:
        """Solver steps in a layer with inputs like the measured ones."""
        work = Work(columns=columns, block_size=block_size)
        before = self.value(STEPS_LAW, work) if len(work.blocks) > 1 else 0.0
        return Steps(before, self.value(LAST_STEPS_LAW, work))


def fit(results: Mapping[str, Any]) -> CostModel:
    """Fit each law to the fitted sizes: non-negative least squares of relative errors."""
    points: dict[Law, list[tuple[Work, float]]] = defaultdict(list)
    for known, work, measured in _points(results):
        if measured > 0:
            points[known].append((work, measured))
    floors = floors_of(results)
    coefficients = {
        name: fit_law(terms, [work for work, _ in each], [measured for _, measured in each], floors)
        for (name, terms), each in points.items()
    }
    return CostModel(coefficients, results["settings"]["threads"])


def floors_of(results: Mapping[str, Any]) -> dict[str, float]:
    """The least coefficient of a term, in seconds: its operations at the machine's peak speed."""
    peak = max(each["operations_per_second"] for each in results["peak"])
    threads = results["settings"]["threads"]
    return {
        term: operations / peak * (threads if term.endswith("/ threads") else 1)
        for term, operations in PRODUCTS.items()
    }


def fit_law(
    terms: Iterable[str],
    works: Iterable[Work],
    measured: Iterable[float],
    floors: Mapping[str, float],
) -> dict[str, float]:
    """Coefficients of the terms, by least squares of relative errors; terms of 0 are left out.

    floors  the least coefficient of a term; 0 if not given
    """
    terms, seconds = list(terms), np.array(list(measured), dtype=np.float64)
    counts = np.array([[COUNTS[term](work) for term in terms] for work in works])
    rows: NDArray[np.float64] = counts / seconds[:, None]
    # Counts differ by many powers of ten, so the columns are scaled to unit length.
    lengths = np.linalg.norm(rows, axis=0)
    scale = np.where(lengths > 0, lengths, 1.0)
    least = np.array([floors.get(term, 0.0) for term in terms])
    beyond, _ = nnls(rows / scale, np.ones(len(seconds)) - rows @ least)
    found = least + beyond / scale
    return {term: float(each) for term, each in zip(terms, found, strict=True) if each > 0}


def work_of(run: Mapping[str, Any], shape: Iterable[int], steps: Steps, threads: int) -> Work:
    """The work of pruning a layer of `shape`, (c, b), with the options of a run."""
    rows, columns = shape
    return Work(
        rows,
        columns,
        run["block_size"],
        run["pattern"],
        steps.before,
        steps.last,
        run["refit_steps"],
        threads=threads,
    )


def steps_taken(record: Mapping[str, Any]) -> Steps:
    """The solver steps of a measured layer or of a whole model."""
    return Steps(**record["steps"])


def stage_laws(run: Mapping[str, Any]) -> dict[str, Law]:
    """The law of every stage of a run."""
    method, pattern = run["method"], run["pattern"]
    stages = stages_of(method, pattern, run["refit_steps"])
    return {stage: law(stage, method, pattern) for stage in stages}


def laws_of(run: Mapping[str, Any]) -> tuple[Law, Law]:
    """The laws of a run's certificates and of its memory."""
    asked = run["method"], run["pattern"], run["refit_steps"]
    return certificate_law(*asked), memory_law(*asked)


def least_bytes(run: Mapping[str, Any], work: Work) -> float:
    """Bytes while the factor is made. Memory peaks there, or later, which is fitted."""
    return factor_bytes(work) if needs_inverse(run["method"], run["pattern"]) else 0.0


def gram_work(record: Mapping[str, Any]) -> Work:
    """The work of adding one batch to a Gram matrix."""
    return Work(columns=record["columns"], tokens=record["tokens"])


def pass_work(record: Mapping[str, Any]) -> Work:
    """The work of one window through a decoder block."""
    return Work(
        columns=record["hidden"],
        tokens=record["tokens"],
        weights=record["weights"],
        widths=record["widths"],
    )


# Measurements that are not layers: their kind in the results, their law, their work.
OTHERS = (("gram", GRAM_LAW, gram_work), ("pass", PASS_LAW, pass_work))


def _points(results: Mapping[str, Any]) -> Iterator[Point]:
    """All fitted measurements: certified ones of the fitted sizes."""
    for each in results["runs"]:
        run = each["run"]
        certificate, memory = laws_of(run)
        for layer in each["layers"]:
            if layer["held_out"] or not layer["passed"]:
                continue
            steps = steps_taken(layer)
            work = work_of(run, layer["shape"], steps, results["settings"]["threads"])
            for stage, known in stage_laws(run).items():
                yield known, work, layer["stages"][stage]
            yield certificate, work, layer["certificate_seconds"]
            if layer["peak_memory_bytes"] > least_bytes(run, work):
                yield memory, work, layer["peak_memory_bytes"]
            yield STEPS_LAW, work, steps.before
            yield LAST_STEPS_LAW, work, steps.last
    for kind, known, make in OTHERS:
        for record in results[kind]:
            if not record["held_out"] and record["passed"]:
                yield known, make(record), record["seconds"]


def predicted_layer(
    model: CostModel,
    run: Mapping[str, Any],
    shape: Iterable[int],
    least: Steps = NONE,
    taken: Steps | None = None,
) -> dict[str, Any]:
    """Predict a layer, (c, b): seconds by stage, seconds of the certificate, and bytes.

    least  least steps of the solver, if the model predicts fewer
    taken  steps of the solver, in place of the model's
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
    """Every certified measurement with its prediction; `error` is relative to the measurement."""
    return [
        {**each, "error": each["predicted"] / each["measured"] - 1}
        for each in _predicted(results, model)
    ]


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Errors by quantity and role: count, median and worst of |error|, and where it is worst."""
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
    """Whether the errors on held-out sizes keep their bounds; False without held-out sizes."""
    seen = errors.get(quantity, {}).get("held out")
    middle, most = BOUNDS[quantity]
    return bool(seen) and seen["median"] <= middle and seen["worst"] <= most


def _predicted(results: Mapping[str, Any], model: CostModel) -> Iterator[dict[str, Any]]:
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
    for kind, known, make in OTHERS:
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
    """The options of a run, for people."""
    refit = f" + refit {run['refit_steps']}" if run["refit_steps"] else ""
    width = f", B = {run['block_size']}" if run["block_size"] != 128 else ""
    return f"{run['method']}{refit}, {run['pattern']}{width}"
