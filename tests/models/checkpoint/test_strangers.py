"""Files of strangers: values of another type, nested deeply, contradicting one another; escapes."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models.conftest import SMALL, Thanos
from thanos_torch.checkpoint.shards import read_metadata
from thanos_torch.models import MASKS, RECORD, read_masks, read_recipe
from thanos_torch.runtime.strangers import (
    AtLeast,
    Count,
    Shape,
    from_json,
    is_file_name,
    printable,
    read_json,
    typed,
)

Change = Callable[[dict[str, Any]], object]
DEEP = "[" * 100_000


@dataclass(frozen=True)
class Leaf:
    name: str
    size: Count


class Tree(TypedDict):
    leaves: list[Leaf]
    shape: Shape
    kind: Literal["a", "b"] | None
    ratio: NotRequired[float]
    rest: NotRequired[object]


TREE: dict[str, Any] = {"leaves": [{"name": "x", "size": 0}], "shape": [1, 2], "kind": None}


def test_a_record_has_its_types_and_keeps_what_is_not_known() -> None:
    found = from_json(json.dumps({**TREE, "more": [1]}), Tree, "it is damaged")
    assert found == {**TREE, "leaves": [Leaf("x", 0)], "shape": (1, 2), "more": [1]}
    assert typed(float("nan"), Annotated[float, AtLeast(0, finite=False)], "")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"leaves": {}}, "leaves must be a list, got {}"),
        ({"leaves": [{"name": "x"}]}, r"leaves\[0\] has no 'size'"),
        ({"leaves": [{"name": 1, "size": 0}]}, r"leaves\[0\].name must be text, got 1"),
        ({"leaves": [{"name": "x", "size": True}]}, "size must be a whole number, got True"),
        ({"leaves": [{"name": "x", "size": -1}]}, "size must be at least 0, got -1"),
        ({"shape": [1]}, r"shape must be 2 values"),
        ({"shape": [1, 0]}, r"shape\[1\] must be at least 1, got 0"),
        ({"kind": "c"}, "kind must be one of a, b, got 'c'"),
        ({"ratio": float("inf")}, "ratio must be finite, got inf"),
        ({"ratio": None}, "ratio must be a number, got None"),
        ({"ratio": 10**18}, "a number of 19 digits"),
        ({"rest": "\ud800"}, "holds half a character"),
        ({"kind": "x\n\x1b" * 100}, "kind must be one of a, b, got 'x"),
    ],
)
def test_other_records_are_refused_in_one_short_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"it is damaged: .*{message}") as refused:
        from_json(json.dumps({**TREE, **change}), Tree, "it is damaged")
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    "text",
    [DEEP, '{"a": ' * 900 + "1" + "}" * 900, '{"a": 1, "a": 2}', b"\xff\xfe{", "{", "nul", ""],
)
def test_what_is_no_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"^it is damaged: "):
        from_json(text, dict[str, object], "it is damaged")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    for file in (tmp_path / "pipe", tmp_path, tmp_path / "none"):
        with pytest.raises(ValueError, match=f"^{file} is damaged: "):
            read_json(file, dict[str, object])


def test_names_of_files() -> None:
    assert all(map(is_file_name, ["a", "a.json", "..a", "ä ö", "a b", "x" * 255]))
    wrong = ["", ".", "..", "/", "a/b", "a\\b", "a\0", "\n", "x" * 256]
    assert not any(map(is_file_name, wrong))


def layer(change: Change) -> Change:
    return lambda record: change(record["layers"][0])


def nested(record: dict[str, Any]) -> None:
    for _ in range(900):
        record["layers"] = [record["layers"]]


RECORDS: dict[str, tuple[Change, str]] = {
    "layers": (lambda record: record.update(layers={}), "layers must be a list"),
    "no layers": (lambda record: record.update(layers=[]), "it has no layers"),
    "nested": (nested, "nests more than 60 levels deep"),
    "name": (layer(lambda each: each.update(name=["a"])), "name must be text"),
    "shape": (layer(lambda each: each.update(shape=[16, 0])), "at least 1, got 0"),
    "options": (layer(lambda each: each.update(options=[1])), "options must be an object"),
    "pattern": (layer(lambda each: each["options"].update(pattern="3:2")), "n must lie in"),
    "m": (layer(lambda each: each["options"].update(pattern="2:7")), "does not divide"),
    "stored": (layer(lambda each: each.update(stored=3)), "stored must be an object"),
    "tensors": (layer(lambda each: each["stored"].update(tensors=[])), "one or several tensors"),
    "expert": (layer(lambda each: each["stored"].update(expert=-1)), "at least 0, got -1"),
    "removed": (layer(lambda each: each.update(removed=10**9)), "1000000000 of 16 x 16 weights"),
    "certificate": (
        layer(lambda each: each["certificate"].update(passed="yes")),
        "passed must be true or false",
    ),
    "checks": (
        layer(lambda each: each["certificate"]["checks"][0].update(verdict="failed")),
        "says passed, the checks in it do not",
    ),
    "no checks": (layer(lambda each: each["certificate"].update(checks=[])), "the checks in it"),
    "forged pass": (
        layer(lambda each: each.update(stored_exactly=False)),
        "it says passed, its certificate failed",
    ),
    "too many": (layer(lambda each: each.update(removed=257)), "257 of 16 x 16 weights removed"),
    "twice": (lambda record: record["layers"].append(record["layers"][0]), "one of them twice"),
    "verified": (lambda record: record.update(verified=1), "verified must be true or false"),
    "summary": (
        lambda record: record.update(verified=False),
        "verified is False, the layers say True",
    ),
    "other pattern": (
        lambda record: record.update(pattern="4:8"),
        "pattern is '4:8', the layers say 'unstructured:0.5, 2:4, ",
    ),
    "seconds": (lambda record: record.update(seconds={"gram": "1"}), "seconds.gram must be a num"),
}


@pytest.mark.parametrize("case", RECORDS)
@pytest.mark.parametrize("command", ["inspect", "pack", "certify"])
def test_records_of_strangers_are_refused_in_one_line(
    command: str, case: str, kept: tuple[Path, Path, Path], tmp_path: Path, thanos: Thanos
) -> None:
    change, message = RECORDS[case]
    record = json.loads((kept[1] / RECORD).read_text())
    record["layers"].sort(key=lambda each: "q_proj" not in each["name"])
    change(record)
    folder = tmp_path / "spoiled"
    folder.mkdir()
    shutil.copy(kept[1] / MASKS, folder)
    (folder / RECORD).write_text(json.dumps(record))
    arguments = {
        "inspect": ["inspect", folder],
        "pack": ["pack", folder, "--out", tmp_path / "out"],
        "certify": ["certify", kept[0], folder, "--gram", kept[2]],
    }
    done = thanos(*arguments[command])
    assert done.status == 1
    assert f"{folder / RECORD} is no record of a pruned model: " in done.err
    assert message in done.err
    assert done.err.strip().isprintable()


METADATA: dict[str, tuple[dict[str, str], str]] = {
    "deep": ({"shapes": DEEP}, "nests too deeply"),
    "list": ({"shapes": "[]"}, "must be an object, got []"),
    "number": ({"shapes": '{"a": 3}'}, "a must be a list, got 3"),
    "negative": ({"shapes": '{"a": [-2, -4]}'}, "must be at least 1, got -2"),
    "huge": ({"shapes": '{"a": [99999999, 99999999]}'}, "does not fit its shape"),
    "other layer": ({"shapes": '{"b": [2, 4]}'}, "it lacks the mask or the shape of 'a'"),
    "none": ({}, "has no 'shapes'"),
}


@pytest.mark.parametrize("case", METADATA)
def test_masks_of_strangers_are_refused_in_one_line(case: str, tmp_path: Path) -> None:
    metadata, message = METADATA[case]
    save_file({"a": torch.zeros(1, dtype=torch.uint8)}, tmp_path / MASKS, metadata=metadata)
    with pytest.raises(ValueError, match=f"{MASKS} is damaged: .*") as refused:
        read_masks(tmp_path)
    assert message in str(refused.value)


def test_inspect_sees_that_masks_and_record_disagree(
    kept: tuple[Path, Path, Path], tmp_path: Path, thanos: Thanos
) -> None:
    """A layer that is struck from the record, with its certificate, and a place that is another."""
    shutil.copytree(kept[1], tmp_path / "struck")
    record = json.loads((kept[1] / RECORD).read_text())
    pruned = [each for each in record["layers"] if each["options"]]
    record["layers"].remove(pruned[0])
    (tmp_path / "struck" / RECORD).write_text(json.dumps(record))
    done = thanos("inspect", tmp_path / "struck")
    assert done.status == 1
    shutil.copytree(kept[1], tmp_path / "moved")
    metadata = read_metadata(kept[1] / MASKS)
    places = json.loads(metadata["places"])
    first, second = (each["name"] for each in pruned[:2])
    places[first], places[second] = places[second], places[first]
    tensors = load_file(kept[1] / MASKS)
    metadata = {**metadata, "places": json.dumps(places)}
    save_file(tensors, tmp_path / "moved" / MASKS, metadata=metadata)
    done = thanos("inspect", tmp_path / "moved")
    assert done.status == 1
    assert f"{RECORD} and {MASKS} disagree about it" in done.out


def test_a_record_that_only_looks_like_that_of_the_same_run_is_not_believed(
    dense: Path, tmp_path: Path, thanos: Thanos
) -> None:
    command = ("prune", dense, "--pattern", "2:4", "--out", tmp_path / "out", *SMALL)
    assert thanos(*command).status == 0
    text = (tmp_path / "out" / RECORD).read_text()
    changes: list[dict[str, Any]] = [
        *({"layers": 3}, {"layers": []}, {"others": 5}, {"seconds": []}, {"sparsity": "x"}),
        *({"model": None}, {"verified": False}, {"pattern": "4:8"}),
    ]
    for change in changes:
        (tmp_path / "out" / RECORD).write_text(json.dumps({**json.loads(text), **change}))
        done = thanos(*command)
        assert done.status == 1, change
        assert "out must be a new or empty folder" in done.err
    (tmp_path / "out" / RECORD).write_text(text)
    assert thanos(*command).status == 0


RECIPES = {
    "deep": f"pattern = {DEEP}",
    "deep table": "a." * 3000 + "b = 1",
    "rules": 'pattern = "2:4"\nrules = "all"',
    "rule": 'rules = [[1], "x"]',
    "date": "pattern = 2020-01-01",
    "list": 'pattern = ["2:4"]',
    "nan": 'pattern = "2:4"\ndamping = nan',
    "huge": f'pattern = "2:4"\ndamping = {"9" * 400}',
    "boolean": 'pattern = "2:4"\nblock_size = true',
    "escape": '"\\u001b[2J\\n" = 1',
    "globs": 'pattern = "2:4"\n[[rules]]\nlayers = [1]',
}


@pytest.mark.parametrize("case", RECIPES)
def test_recipes_of_strangers_are_refused_in_one_line(case: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(RECIPES[case])
    fallback = {"method": "thanos", "block_size": 8, "damping": 0.01, "refit": 0}
    with pytest.raises(ValueError, match=r"recipe.toml") as refused:
        read_recipe(file, fallback)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("options", [("--dry-run",), ("--out", "OUT")])
def test_a_config_with_endless_layers_is_refused(
    options: tuple[str, ...], dense: Path, tmp_path: Path, thanos: Thanos
) -> None:
    shutil.copytree(dense, tmp_path / "model")
    config = json.loads((dense / "config.json").read_text())
    config["num_hidden_layers"] = 10**15
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    filled = [tmp_path / "out" if each == "OUT" else each for each in options]
    done = thanos("prune", tmp_path / "model", "--pattern", "2:4", *filled)
    assert done.status == 1
    assert "config.json says num_hidden_layers = 1000000000000000, more than 1000" in done.err
    assert not (tmp_path / "out").exists()


STRANGE = "a\x1b[31m[/x][red]:warning:\n\u202eb"


def test_names_of_tensors_are_escaped_where_they_are_printed(
    tmp_path: Path, thanos: Thanos
) -> None:
    save_file({STRANGE: torch.ones(4, 4)}, tmp_path / "model.safetensors")
    for options in ((), ("--layers",)):
        done = thanos("inspect", tmp_path, *options)
        assert done.status == 0
        assert not {"\x1b", "\u202e"} & {*done.out}
        assert "[/x][red]:warning:" in done.out
    index = {"weight_map": {STRANGE: "model-1.safetensors"}}
    (tmp_path / "model.safetensors").rename(tmp_path / "model-1.safetensors")
    save_file({"b": torch.ones(4, 4)}, tmp_path / "model-1.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    done = thanos("inspect", tmp_path)
    assert done.status == 1
    assert done.err.isprintable()


def test_bars_take_names_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal, where rich would look for [markup] in them."""
    from thanos_torch.cli import progress

    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress.progress_bar(f"pruning {STRANGE}") as show:
        show(STRANGE, 1, 2)


def test_printable_is_one_line() -> None:
    assert printable("a\nb\x1b\u2028ä😀") == "a\\nb\\x1b\\u2028ä😀"
