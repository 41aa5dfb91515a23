"""The cost model: seconds and bytes as sums of a few terms, its fit, and its errors.

Every method and pattern has coefficients of its own, fitted to the measured layers of the fitted
sizes by non-negative least squares of relative errors. The held-out sizes show how wrong it is.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from scipy.optimize import nnls

from thanos_torch.methods.update import ENTRIES, MIN_ROWS
from verification.benchmarks.performance.cases import BLOCK_SIZE

Work = dict[str, float]  # how many units of each kind a task has
Model = dict[str, Work]  # seconds or bytes for each unit, by the name of what is predicted
# The median and the largest error on held-out sizes, in %, up to which predictions can be planned
# by: one hour or two, a small node or a large one.
BOUNDS = {"pruning": (20, 50), "memory": (10, 30), "gram": (20, 50), "pass": (20, 50)}


@dataclass(frozen=True)
class Measurement:
    """One measured number and the work behind it.

    quantity  one of BOUNDS
    run       label of the run that pruned a layer; empty for Gram matrices and passes
    size      of the task in words
    weight    how large the task is, to find the largest one
    """

    quantity: str
    run: str
    size: str
    weight: float
    held_out: bool
    work: Work
    measured: float

    @property
    def name(self) -> str:
        """The name of its coefficients in the model."""
        return name_of(self.quantity, self.run)


def name_of(quantity: str, run: str = "") -> str:
    """The name of a quantity's coefficients in the model."""
    return f"{quantity}: {run}" if run else quantity


def label(run: Mapping[str, Any]) -> str:
    """Method and pattern of a run, for people."""
    refit = " + refit" if run["refit_steps"] else ""
    return f"{run['method']}{refit} {run['pattern']}"


def layer_work(rows: int, columns: int) -> Work:
    """Work on a layer (c, b): products with its weight, its factor, passes over both, overhead."""
    c, b = float(rows), float(columns)
    return {"c b²": c * b**2, "b³": b**3, "c b": c * b, "b²": b**2, "b": b, "1": 1.0}


def memory_work(rows: int, columns: int) -> Work:
    """What memory consists of: matrices like W and like H, and a part that the solver holds."""
    width = min(BLOCK_SIZE, columns)
    part = min(rows, max(MIN_ROWS, ENTRIES // width)) * width
    return {"c b": float(rows * columns), "b²": float(columns**2), "part": float(part), "1": 1.0}


def gram_work(tokens: int, columns: int) -> Work:
    """Adding tokens to a Gram matrix: its product, and reading the inputs."""
    return {"tokens b²": float(tokens * columns**2), "tokens b": float(tokens * columns)}


def pass_work(tokens: int, weights: int, hidden: int) -> Work:
    """A window through a decoder block: products with its weights, and attention."""
    return {"tokens weights": float(tokens * weights), "tokens² b": float(tokens**2 * hidden)}


def measurements(results: Mapping[str, Any]) -> Iterator[Measurement]:
    """All measurements that count: certified ones, of layers with the usual block size."""
    for each in results["runs"]:
        if each["run"]["block_size"] != BLOCK_SIZE:
            continue
        for layer in filter(_passed, each["layers"]):
            shape = layer["shape"]
            for quantity, work, measured in (
                ("pruning", layer_work(*shape), layer["seconds"]),
                ("memory", memory_work(*shape), layer["peak_memory_bytes"]),
            ):
                yield Measurement(quantity, label(each["run"]), layer["name"], shape[0] * shape[1],
                                  layer["held_out"], work, measured)  # fmt: skip
    for each in filter(_passed, results["gram"]):
        work = gram_work(each["tokens"], each["columns"])
        yield _other("gram", each, work, "columns")
    for each in filter(_passed, results["pass"]):
        work = pass_work(each["tokens"], each["weights"], each["hidden"])
        yield _other("pass", each, work, "hidden")


def _other(quantity: str, record: Mapping[str, Any], work: Work, width: str) -> Measurement:
    size = f"{record['tokens']} tokens of {record[width]}"
    weight = record["tokens"] * record[width]
    return Measurement(quantity, "", size, weight, record["held_out"], work, record["seconds"])


def _passed(record: Mapping[str, Any]) -> bool:
    return record["passed"] is True


def fit(found: Iterable[Measurement]) -> Model:
    """Coefficients for everything that was measured on fitted sizes."""
    groups: dict[str, list[Measurement]] = defaultdict(list)
    for each in found:
        if not each.held_out:
            groups[each.name].append(each)
    return {name: _coefficients(group) for name, group in groups.items()}


def _coefficients(group: Sequence[Measurement]) -> Work:
    """Non-negative least squares of relative errors."""
    relative = np.array([[*each.work.values()] for each in group])
    relative /= np.array([each.measured for each in group])[:, None]
    # Counts differ by many powers of ten, so the columns are scaled to unit length.
    lengths = np.linalg.norm(relative, axis=0)
    scaled, _ = nnls(relative / lengths, np.ones(len(group)))
    return {term: float(x) for term, x in zip(group[0].work, scaled / lengths, strict=True)}


def predicted(model: Model, quantity: str, work: Work, run: str = "") -> float:
    """Seconds or bytes of some work. Raises ValueError if nothing of that kind was measured."""
    name = name_of(quantity, run)
    if name not in model:
        raise ValueError(f"name must be one of {', '.join(model)}, got {name!r}")
    return sum(each * work[term] for term, each in model[name].items())


def errors(found: Iterable[Measurement], model: Model) -> dict[str, Any]:
    """Errors on held-out sizes by quantity, in % of what was measured.

    count, median, worst  number of cases; median and maximum of the absolute error
    where                 the worst case
    largest, size         least and greatest signed error on the largest size, and that size
    """
    groups: dict[str, list[tuple[float, Measurement]]] = defaultdict(list)
    for each in found:
        if each.held_out and each.name in model:
            error = 100 * (predicted(model, each.quantity, each.work, each.run) / each.measured - 1)
            groups[each.quantity].append((error, each))
    return {quantity: _summary(group) for quantity, group in groups.items()}


def _summary(group: Sequence[tuple[float, Measurement]]) -> dict[str, Any]:
    worst, where = max(group, key=lambda pair: abs(pair[0]))
    most = max(each.weight for _, each in group)
    largest = [(error, each) for error, each in group if each.weight == most]
    return {
        "count": len(group),
        "median": median(abs(error) for error, _ in group),
        "worst": abs(worst),
        "where": f"{where.run} {where.size}".strip(),
        "largest": [min(error for error, _ in largest), max(error for error, _ in largest)],
        "size": largest[0][1].size,
    }


def checked(found: Mapping[str, Any], quantity: str) -> bool:
    """Whether the errors on held-out sizes keep their bounds; False without held-out sizes."""
    middle, most = BOUNDS[quantity]
    if quantity not in found:
        return False
    return bool(found[quantity]["median"] <= middle and found[quantity]["worst"] <= most)
