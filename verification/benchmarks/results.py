"""Results files: the one reader and writer of their JSON, and the typed record of a run."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thanos_torch.runtime.files import whole_file

RESULTS = "results.json"  # the results file of a folder
# Logarithms are cut off here: an error of 0 has none, and NaN counts as worse than any number.
FAR = math.log(1e12)
# Recorded calibration draws of the checkout, if there is one: a file for each kind of calibration.
RECORDED = sorted((Path(__file__).parents[2] / "docs" / "results").glob("draws*.json"))
NAMED = 3  # layers or runs that a message names; it counts the others

# Logarithms by layer name; of perplexity, by evaluation text.
Values = dict[str, float]


@dataclass(frozen=True)
class Draw:
    """How a run was calibrated. Runs with the same draw saw the same tokens.

    tokens  SHA-256 of the tokens, as data sets of one name may hold different texts; None if the
            file does not record it
    """

    dataset: str | None = None
    nsamples: int | None = None
    seqlen: int | None = None
    seed: int | None = None
    tokens: str | None = None

    @property
    def kind(self) -> tuple[Any, ...]:
        """Data set and sizes: draws of one kind differ in their seed and vary in the same way."""
        return self.dataset, self.nsamples, self.seqlen


DENSE = Draw()  # a dense model is not calibrated


@dataclass(frozen=True)
class Key:
    """What was run: the model and the options. Runs with the same key differ in their draw only."""

    model: str
    options: tuple[tuple[str, str], ...]

    @property
    def label(self) -> str:
        """The options for people: method and pattern by value, the others as name=value."""
        return " ".join(
            value if name in ("method", "pattern") else f"{name}={value}"
            for name, value in self.options
        ).strip()


@dataclass(frozen=True)
class MeasuredLayer:
    """What a results file records of one pruned layer.

    removed  number of weights set to zero
    passed   whether its certificate passed
    error, dense_error  relative layer error with the inputs of the pruned and of the dense model
    """

    name: str
    removed: int
    passed: bool
    error: float | None
    dense_error: float | None


@dataclass(frozen=True)
class MeasuredRun:
    """One run of a results file: a dense model, or a model pruned on one calibration draw.

    layers       None for a dense model
    evaluation   the evaluation text in words, as far as it is recorded
    pruning_seconds, peak_memory_bytes  None if not recorded
    conditions   machine, threads and jobs, on which times depend, in words
    """

    key: Key
    draw: Draw
    layers: tuple[MeasuredLayer, ...] | None
    perplexity: float | None
    evaluation: str
    pruning_seconds: float | None
    peak_memory_bytes: float | None
    conditions: str

    @property
    def pruned(self) -> bool:
        """False for a dense model."""
        return self.layers is not None

    def measured(self, measure: str) -> Values:
        """`error` or `dense_error` of each layer, or `perplexity`, where recorded; logarithms."""
        if measure == "perplexity":
            value = self.perplexity
            return {} if value is None else {self.evaluation: logarithm(value)}
        found = {layer.name: getattr(layer, measure) for layer in self.layers or ()}
        return {name: logarithm(value) for name, value in found.items() if value is not None}


Records = dict[Draw, MeasuredRun]


@dataclass(frozen=True)
class ResultsFile:
    """A results file: its JSON, and its runs by key and draw."""

    file: Path
    content: dict[str, Any]
    runs: dict[Key, Records]

    @property
    def records(self) -> list[MeasuredRun]:
        """All runs."""
        return [record for records in self.runs.values() for record in records.values()]

    def origin(self) -> dict[str, Any]:
        """Where the numbers come from, for JSON."""
        names = ("study", "profile", "command", "commit", "date", "machine")
        return {"file": str(self.file), **{name: self.content.get(name) for name in names}}


def write_results(file: Path, content: Mapping[str, Any], indent: int | None = None) -> None:
    """Write a results file in one step; the folder is made. Raises ValueError for NaN.

    Files with many layers are written on one line, without an indent.
    """
    text = json.dumps(content, indent=indent, allow_nan=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as unfinished:
        unfinished.write_text(text + "\n", encoding="utf-8")


def read_content(file: Path) -> dict[str, Any]:
    """The JSON of a results file. Raises ValueError, naming the file, if it cannot be read."""
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _refusal(file, error) from error
    return content


def read_results(path: Path) -> ResultsFile:
    """Read a results file, or results.json of a folder, into typed records.

    Raises ValueError if the file is missing or is no results file of whole models.
    """
    file = path / RESULTS if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"results must be a file, or a folder with {RESULTS}, got {path}")
    content = read_content(file)
    grouped: dict[Key, Records] = {}
    try:
        for run in content["runs"]:
            record = _record(run, content)
            grouped.setdefault(record.key, {})[record.draw] = record
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _refusal(file, error) from error
    return ResultsFile(file, content, grouped)


def read_draws(files: Iterable[Path]) -> dict[Key, Records]:
    """Merge the runs of several results files, to estimate how much calibration draws vary."""
    found: dict[Key, Records] = {}
    for file in files:
        for key, records in read_results(file).runs.items():
            found.setdefault(key, {}).update(records)
    return found


def _refusal(file: Path, error: Exception) -> ValueError:
    return ValueError(f"{file} is no results file: {type(error).__name__} {error}")


def _record(run: Mapping[str, Any], content: Mapping[str, Any]) -> MeasuredRun:
    """Raises KeyError for a pruned run without its calibration or a layer without its verdict."""
    where = {name: run.get(name, content.get(name)) for name in ("machine", "threads", "jobs")}
    return MeasuredRun(
        Key(run["model"], _options(run["run"])),
        _draw(run),
        tuple(map(_layer, run["layers"])) if "layers" in run else None,
        run.get("perplexity"),
        _evaluation(run),
        run.get("seconds", {}).get("pruning"),
        run.get("peak_memory_bytes"),
        ", ".join(f"{name} {value}" for name, value in where.items()),
    )


def _layer(layer: Mapping[str, Any]) -> MeasuredLayer:
    errors = layer.get("error"), layer.get("dense_error")
    return MeasuredLayer(layer["name"], layer["removed"], layer["passed"], *errors)


def _draw(run: Mapping[str, Any]) -> Draw:
    if "layers" not in run:
        return DENSE
    tokens = run.get("calibration_text", {}).get("windows_sha256")
    calibration = {
        name: run["calibration"][name] for name in ("dataset", "nsamples", "seqlen", "seed")
    }
    return Draw(**calibration, tokens=tokens)


def _options(run: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The options that are set, as text: method, pattern, then the others by name."""
    order = sorted(run, key=lambda name: (name != "method", name != "pattern", name))
    return tuple((name, str(run[name])) for name in order if run[name] not in (None, ""))


def _evaluation(run: Mapping[str, Any]) -> str:
    text = run.get("evaluation_text", {}).get("windows_sha256")
    recorded = {
        "{} windows": run.get("windows"),
        "of {} tokens": run.get("seqlen"),
        "({} scored)": run.get("tokens"),
        "of text {}": text and text[:12],
    }
    found = [words.format(value) for words, value in recorded.items() if value is not None]
    return " ".join(found) or "windows that are not told"


def logarithm(value: float) -> float:
    """The logarithm, cut off at ± FAR; FAR for NaN."""
    if math.isnan(value):
        return FAR
    return min(max(math.log(value), -FAR), FAR) if value > 0 else -FAR


def named(names: Sequence[str]) -> str:
    """The first NAMED of some names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
