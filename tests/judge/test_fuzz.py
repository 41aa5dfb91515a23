"""A short fuzzing run finds no fault in the readers, and finds faults that are planted."""

import contextlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from verification.fuzz.__main__ import main
from verification.fuzz.folders import NotWholeError
from verification.fuzz.mutations import _node
from verification.fuzz.targets import FuzzTarget, targets, value_targets
from verification.fuzz.trial import made_input, run
from verification.fuzz.values import varied

RECORD = Path(__file__).parents[2] / "docs" / "results" / "fuzz.json"


@pytest.mark.parametrize("name", list(targets()))
def test_readers_take_whatever_comes(name: str) -> None:
    tally = run(name, targets()[name], seed=1, numbers=range(1500))
    assert tally.findings == []
    assert tally.refused > 300
    assert tally.accepted > 0  # the inputs are not only noise


# The others take a tenth of a second or more an input; `make fuzz` has all of them.
QUICK = (
    *(
        "record",
        "record, asked",
        "record, finished",
        "masks",
        "packed",
        "packed, forged",
        "index",
        "grams",
        "recipe",
    ),
    *("results", "values of manifest", "values of describe", "values of outputs"),
)


@pytest.mark.parametrize("name", QUICK)
def test_readers_take_whatever_values_come(name: str) -> None:
    target = value_targets()[name]
    tally = run(name, target, seed=1, numbers=range(int(60 * target.share)))
    assert tally.findings == []
    assert tally.refused > 0
    assert run(name, replace(target, change=lambda _, seeds: seeds[0]), 0, range(1)).accepted == 1


def test_every_change_of_values_happens() -> None:
    seed = json.dumps({"a": [1, 2.5, "x", {"b": None, "c": True}], "d": {"e": "f"}}).encode()
    changed = {varied(Random(number), (seed,)) for number in range(2000)}
    assert len(changed) > 1000
    assert any(each.startswith(b"[" * 70) or b"[" * 70 in each for each in changed)
    assert seed not in changed or len(changed) > 1


def crash(content: bytes, folder: Path) -> object:
    return content[10**6]


def hang(content: bytes, folder: Path) -> object:
    while True:
        with contextlib.suppress(Exception):  # a reader that catches what it can
            time.sleep(0.01)


def swell(content: bytes, folder: Path) -> object:
    return bytearray(2**33)


def hang_and_catch_everything(content: bytes, folder: Path) -> object:
    try:
        while True:
            time.sleep(0.01)
    except BaseException:
        while True:
            time.sleep(0.01)


def leave(content: bytes, folder: Path) -> object:
    raise SystemExit(0)


@pytest.mark.parametrize(
    ("reader", "named"),
    [
        (crash, "IndexError"),
        (hang, "no end"),
        (hang_and_catch_everything, "no end"),
        (swell, "MemoryError"),
        (leave, "SystemExit"),
    ],
)
def test_bad_readers_are_noticed(reader: object, named: str) -> None:
    tally = run("planted", FuzzTarget((b"seed",), reader), seed=0, numbers=range(1))  # type: ignore[arg-type]
    assert [named in str(found["what"]) for found in tally.findings] == [True]


def test_a_process_that_dies_is_noticed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("verification.fuzz.__main__.run_chunk", lambda job: os._exit(0))
    assert main(["--count", "10", "--only", "json"]) == 1
    assert "death of the process of 0 to 9 of json" in capsys.readouterr().out


def test_values_of_json_are_changed_in_files_that_stay_right() -> None:
    seed = targets()["output"].seeds[0]
    changed = {_node(Random(number), seed, ()) for number in range(200)}
    headers = [json.loads(one[8 : 8 + int.from_bytes(one[:8], "little")]) for one in changed]
    assert len(headers) > 100
    assert all(isinstance(header, dict) for header in headers)


def test_inputs_are_the_same_every_time_and_differ() -> None:
    target = targets()["tensors"]
    inputs = [made_input("tensors", target, 0, number) for number in range(200)]
    assert inputs == [made_input("tensors", target, 0, number) for number in range(200)]
    assert len(set(inputs)) > 190
    assert inputs[0] != made_input("tensors", target, 1, 0)


def test_command_and_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "fuzz.json"
    assert main(["--count", "300", "--only", "pattern", "--out", str(out)]) == 0
    assert "300 inputs" in capsys.readouterr().out
    written = json.loads(out.read_text())
    assert (written["inputs"], written["findings"]) == (300, [])
    assert main(["--only", "pattern", "--number", "7"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("b'")
    assert "findings 0" in printed
    assert main(["--seconds", "1e-9", "--only", "pattern"]) == 0
    assert int(capsys.readouterr().out.split()[0]) < 1_000_000


def test_accepting_what_is_not_whole_is_noticed() -> None:
    target = value_targets()["packed"]

    def half(content: bytes, folder: Path) -> object:
        raise NotWholeError("accepted: not every file came back")

    tally = run("packed", replace(target, read=half), seed=0, numbers=range(1))
    assert ["not every file came back" in str(found["what"]) for found in tally.findings] == [True]


def test_recorded_run_is_a_million_without_findings() -> None:
    record = json.loads(RECORD.read_text())
    assert record["inputs"] >= 1_000_000
    assert record["findings"] == []
    assert set(record["targets"]) == set(targets())


def test_recorded_run_over_values_is_a_hundred_thousand_without_findings() -> None:
    record = json.loads(RECORD.with_name("fuzz-semantic.json").read_text())
    assert record["inputs"] >= 100_000
    assert record["findings"] == []
    assert set(record["targets"]) >= set(value_targets())


@pytest.mark.parametrize(
    "arguments",
    [["--count", "0"], ["--only", "x"], ["--number", "1"], ["--seconds", "0"], ["--seconds", "x"]],
)
def test_usage_errors(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
