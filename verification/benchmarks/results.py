"""What results files hold, in the form that they are compared in."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Logarithms beyond this are cut off: an error of 0 has none, and NaN is worse than any number.
FAR = math.log(1e12)
# Of the checkout, where there is one: a file for every kind of calibration.
RECORDED = sorted((Path(__file__).parents[2] / "docs" / "results").glob("draws*.json"))
DRAW = ("dataset", "nsamples", "seqlen", "seed")
JUDGED = ("name", "removed", "passed")  # that every layer has

NAMED = 3  # of many that are told at once

# Logarithms by layer; perplexity, which no layer has alone, stands under "".
Values = dict[str, float]


@dataclass(frozen=True)
class Draw:
    """How a run was calibrated. Runs with the same draw saw the same tokens.

    tokens  SHA-256 of those: a data set of one name may be another text elsewhere
    """

    dataset: str | None
    nsamples: int | None
    seqlen: int | None
    seed: int | None
    tokens: str | None

    @property
    def kind(self) -> tuple[Any, ...]:
        """All but the seed and its tokens: draws of one kind vary in the same way."""
        return self.dataset, self.nsamples, self.seqlen


Records = dict[Draw, dict[str, Any]]


@dataclass(frozen=True)
class Key:
    """What was run: a model and the options. Runs with the same key differ in their draw alone."""

    model: str
    options: tuple[tuple[str, str], ...]

    @property
    def label(self) -> str:
        """For people: the options, without names where they need none."""
        return " ".join(
            value if name in ("method", "pattern") else f"{name}={value}"
            for name, value in self.options
        ).strip()

    def with_method(self, method: str) -> "Key":
        """The same run by another method."""
        return Key(self.model, tuple((n, method if n == "method" else v) for n, v in self.options))


@dataclass(frozen=True)
class Results:
    """A results file; runs by what was run and by draw."""

    file: Path
    content: dict[str, Any]
    runs: dict[Key, Records]

    @property
    def unmeasured(self) -> frozenset[str]:
        """Measures that such a file does not take, so that it cannot have lost them.

        `quality.draws` takes no errors with dense inputs, and perplexities only if it is asked
        for windows.
        """
        if self.content.get("study") != "draws":
            return frozenset()
        scored = self.content.get("settings", {}).get("windows")
        return frozenset({"dense_error"} if scored else {"dense_error", "perplexity"})

    def origin(self, name: str) -> Any:
        """A value of the file's header, which older files keep in "environment"."""
        return self.content.get(name, self.content.get("environment", {}).get(name))

    def as_dict(self) -> dict[str, Any]:
        """Where the numbers come from; JSON-able."""
        names = ("study", "profile", "command", "commit", "date", "machine")
        return {"file": str(self.file), **{name: self.origin(name) for name in names}}


def read_results(path: Path) -> Results:
    """A results file, or the results.json of a folder; ValueError if there is none.

    What all runs share, the model and the calibration, may stand in "settings" alone.
    """
    file = path / "results.json" if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"results must be a file, or a folder with results.json, got {path}")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        shared, runs = content.get("settings", {}), content["runs"]
        grouped: dict[Key, Records] = {}
        for record in runs:
            key = Key(str(record.get("model", shared.get("model"))), _options(record["run"]))
            grouped.setdefault(key, {})[_draw(record, shared)] = record
            for layer in record.get("layers", ()):
                _ = [layer[name] for name in JUDGED]
    except (UnicodeDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is no results file: {type(error).__name__} {error}") from error
    return Results(file, content, grouped)


def read_draws(files: Iterable[Path]) -> Results:
    """The runs of several results files as of one, for how much their draws vary."""
    found = no_results()
    for file in files:
        for key, records in read_results(file).runs.items():
            found.runs.setdefault(key, {}).update(records)
    return found


def no_results() -> Results:
    """In the place of a file that there is none of."""
    return Results(Path(), {}, {})


def _draw(record: Mapping[str, Any], shared: Mapping[str, Any]) -> Draw:
    """How a run was calibrated; a dense model was not. KeyError where a pruned one does not say."""
    if "layers" not in record:
        return Draw(None, None, None, None, None)
    calibration = {**shared, **record.get("calibration", {})}
    tokens = record.get("calibration_text", {}).get("windows_sha256")
    dataset, nsamples, seqlen, seed = (calibration[name] for name in DRAW)
    return Draw(dataset, nsamples, seqlen, seed, tokens)


def _options(run: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """In an order of their own; an option that is not set is none."""
    order = sorted(run, key=lambda name: (name != "method", name != "pattern", name))
    return tuple((name, str(run[name])) for name in order if run[name] not in (None, ""))


def layer_values(records: Records, name: str) -> dict[Draw, Values]:
    """Logarithms of a layer's number, as "error", by draw and layer, where it is recorded."""
    return _some(
        records,
        lambda record: {
            layer["name"]: logarithm(layer[name])
            for layer in record.get("layers", ())
            if layer.get(name) is not None
        },
    )


def perplexity_values(records: Records) -> dict[Draw, Values]:
    """Logarithms of perplexity by draw."""
    return _some(
        records,
        lambda record: (
            {"": logarithm(record["perplexity"])} if record.get("perplexity") is not None else {}
        ),
    )


def _some(records: Records, values: Callable[[dict[str, Any]], Values]) -> dict[Draw, Values]:
    found = {draw: values(record) for draw, record in records.items()}
    return {draw: each for draw, each in found.items() if each}


def logarithm(value: float) -> float:
    """Cut off at FAR to both sides; that of NaN is FAR."""
    if math.isnan(value):
        return FAR
    return min(max(math.log(value), -FAR), FAR) if value > 0 else -FAR


def common_layers(samples: Iterable[Values]) -> list[str]:
    """The layers that all samples have, in the order of the first."""
    first, *others = samples
    return [name for name in first if all(name in other for other in others)]


def named(names: list[str]) -> str:
    """For people: the first of many, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
