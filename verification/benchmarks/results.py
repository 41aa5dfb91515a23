"""Results files: the one reader and writer of their JSON, and the typed record of a run."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from thanos_torch.runtime.files import whole_file
from thanos_torch.runtime.strangers import AtLeast, Count, Size, printable, read_json

RESULTS = "results.json"  # the results file of a folder
# Logarithms are cut off here: an error of 0 has none, and NaN counts as worse than any number.
FAR = math.log(1e12)
# Recorded calibration draws of the checkout, if there is one: a file for each kind of calibration.
RECORDED = sorted((Path(__file__).parents[2] / "docs" / "results").glob("draws*.json"))
CONDITIONS = ("machine", "threads", "waiting", "jobs")  # times depend on these
NAMED = 3  # layers or runs that a message names; it counts the others

# Logarithms by layer name; of perplexity, by evaluation text.
Values = dict[str, float]


@dataclass(frozen=True)
class Draw:
    """How a run was calibrated. Runs with the same draw saw the same tokens.

    tokens  SHA-256 of the tokens, as data sets of one name may hold different texts; None if the
            file does not record it
    bos     how windows begin, if it is not what the tokenizer does by itself
    """

    dataset: str | None = None
    nsamples: int | None = None
    seqlen: int | None = None
    seed: int | None = None
    tokens: str | None = None
    bos: str | None = None

    @property
    def kind(self) -> tuple[Any, ...]:
        """Data set, sizes and BOS: draws of one kind differ in their seed and vary alike."""
        return self.dataset, self.nsamples, self.seqlen, self.bos


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
    conditions   machine, threads, how these wait, and jobs, in words, as far as they are recorded;
                 times depend on them
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


class _Layer(TypedDict):
    name: str
    removed: Count
    passed: bool
    error: NotRequired[Annotated[float, AtLeast(0, finite=False)] | None]
    dense_error: NotRequired[Annotated[float, AtLeast(0, finite=False)] | None]


class _Calibration(TypedDict):
    dataset: str
    nsamples: Size
    seqlen: Size
    seed: Count


class _Text(TypedDict):
    """What is read of a text; without `bos` it is what the tokenizer does by itself."""

    windows_sha256: NotRequired[str | None]
    bos: NotRequired[Literal["each", "first", "none", "tokenizer"] | None]


class _Seconds(TypedDict):
    pruning: NotRequired[Annotated[float, AtLeast(0)] | None]


class _Run(TypedDict):
    """What is read of one run; no perplexity is below 1."""

    run: dict[str, str | bool | float | None]
    model: str
    layers: NotRequired[list[_Layer]]
    calibration: NotRequired[_Calibration]
    verified: NotRequired[bool | None]
    perplexity: NotRequired[Annotated[float, AtLeast(1)] | None]
    calibration_text: NotRequired[_Text]
    evaluation_text: NotRequired[_Text]
    seconds: NotRequired[_Seconds]
    peak_memory_bytes: NotRequired[Annotated[float, AtLeast(0)] | None]
    windows: NotRequired[Count | None]
    seqlen: NotRequired[Count | None]
    tokens: NotRequired[Count | None]


class _Content(TypedDict):
    runs: list[_Run]
    versions: NotRequired[dict[str, str]]


NO_RESULTS = "is no results file"


def read_content(file: Path) -> dict[str, Any]:
    """The JSON of a results file. Raises ValueError, naming the file, if it cannot be read."""
    return read_json(file, dict[str, Any], NO_RESULTS)


def read_results(path: Path) -> ResultsFile:
    """Read a results file, or results.json of a folder, into typed records.

    Raises ValueError, in one line that names the file and the run, if it is missing or is no
    results file of whole models, and if a run contradicts itself or stands there twice.
    """
    file = path / RESULTS if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"results must be a file, or a folder with {RESULTS}, got {path}")
    content = read_json(file, _Content, NO_RESULTS)
    grouped: dict[Key, Records] = {}
    for number, run in enumerate(content["runs"]):
        try:
            record = _record(run, content)
            _refuse_contradictions(run, record, grouped.get(record.key, {}))
        except ValueError as error:
            name = " ".join(value for _, value in _options(run["run"]))
            where = printable(f"runs[{number}], {name} of {run['model']}")
            raise ValueError(f"{file} {NO_RESULTS}: {where}: {error}") from None
        grouped.setdefault(record.key, {})[record.draw] = record
    return ResultsFile(file, {**content}, grouped)


def _refuse_contradictions(run: _Run, record: MeasuredRun, others: Records) -> None:
    if record.draw in others:
        raise ValueError("it stands there twice")
    if record.layers is None:
        return
    if len({layer.name for layer in record.layers}) < max(len(record.layers), 1):
        raise ValueError("it has no layers, or one of them twice")
    passed, said = all(layer.passed for layer in record.layers), run.get("verified")
    if said is not None and said != passed:
        raise ValueError(
            f"verified is {said}, but {'every' if passed else 'not every'} layer passed"
        )


def read_draws(files: Iterable[Path]) -> dict[Key, Records]:
    """Merge the runs of several results files, to estimate how much calibration draws vary."""
    found: dict[Key, Records] = {}
    for file in files:
        for key, records in read_results(file).runs.items():
            found.setdefault(key, {}).update(records)
    return found


def _record(run: _Run, content: Mapping[str, Any]) -> MeasuredRun:
    where = {name: run.get(name, content.get(name)) for name in CONDITIONS}
    return MeasuredRun(
        Key(run["model"], _options(run["run"])),
        _draw(run),
        tuple(map(_layer, run["layers"])) if "layers" in run else None,
        run.get("perplexity"),
        _evaluation(run),
        run.get("seconds", {}).get("pruning"),
        run.get("peak_memory_bytes"),
        printable(", ".join(f"{name} {where[name]}" for name in where if where[name] is not None)),
    )


def _layer(layer: _Layer) -> MeasuredLayer:
    errors = layer.get("error"), layer.get("dense_error")
    return MeasuredLayer(layer["name"], layer["removed"], layer["passed"], *errors)


def _draw(run: _Run) -> Draw:
    if "layers" not in run:
        return DENSE
    if "calibration" not in run:
        raise ValueError("a pruned run has no 'calibration'")
    given = run["calibration"]
    text = run.get("calibration_text", {})
    sizes = given["dataset"], given["nsamples"], given["seqlen"], given["seed"]
    return Draw(*sizes, text.get("windows_sha256"), _bos(text))


def _bos(text: _Text) -> str | None:
    """How windows begin, None if it is what the tokenizer does by itself."""
    bos = text.get("bos")
    return None if bos == "tokenizer" else bos


def _options(run: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The options that are set, as text: method, pattern, then the others by name."""
    order = sorted(run, key=lambda name: (name != "method", name != "pattern", name))
    return tuple((name, str(run[name])) for name in order if run[name] not in (None, ""))


def _evaluation(run: _Run) -> str:
    found = run.get("evaluation_text", {})
    text = found.get("windows_sha256")
    recorded = {
        "{} windows": run.get("windows"),
        "of {} tokens": run.get("seqlen"),
        "({} scored)": run.get("tokens"),
        "of text {}": text and text[:12],
        "with bos {}": _bos(found),
    }
    said = [words.format(value) for words, value in recorded.items() if value is not None]
    return " ".join(said) or "windows that are not told"


def logarithm(value: float) -> float:
    """The logarithm, cut off at ± FAR; FAR for NaN."""
    if math.isnan(value):
        return FAR
    return min(max(math.log(value), -FAR), FAR) if value > 0 else -FAR


def named(names: Sequence[str]) -> str:
    """The first NAMED of some names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
