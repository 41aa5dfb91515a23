"""Tables fit 80 columns, whatever is in them, and no number is cut."""

import re
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.models.conftest import SMALL, Thanos
from thanos_torch import parse_pattern
from thanos_torch.checkpoint.packed_format import PackedLayer, PackedSizes
from thanos_torch.cli import checkpoints, prune_tables
from thanos_torch.cli.tables import table_lines
from thanos_torch.models import LayerOptions
from thanos_torch.pruning.cost import PlannedLayer

WIDTH = 80
PATTERN = "structured:0.25+outliers:0.1"
SHAPES = {
    "self_attn.q_proj": (16384, 16384),
    "mlp.down_proj": (16384, 53248),
    "mlp.experts.127.gate_up_proj": (106496, 16384),
}


def check(headings: list[str], rows: list[list[str]]) -> list[str]:
    """Draw a table; every word of every cell is in it, whole."""
    lines = list(table_lines(headings, rows, WIDTH))
    assert max(map(cell_len, lines)) <= WIDTH
    words = {word for line in lines for word in line.split()}
    for cell in [*headings, *(cell for row in rows for cell in row)]:
        assert set(cell.split()) <= words, cell
    return lines


def planned() -> list[PlannedLayer]:
    """The layers of a model of some 400 billion weights."""
    choice = LayerOptions(parse_pattern(PATTERN))
    return [
        PlannedLayer(f"model.layers.{n}.{name}", shape, n, name, choice, shape[0] * shape[1] // 4)
        for n in range(126)
        for name, shape in SHAPES.items()
    ]


def test_the_plan_of_a_large_model() -> None:
    lines = check(prune_tables.PLAN_HEADINGS, prune_tables._plan_rows(planned()))
    assert sum(line.startswith("layers") for line in lines) == 1  # one table
    assert any("219,848,638,464" in line for line in lines)
    assert any("16384 x 53248," in line for line in lines)


def test_the_record_of_a_large_model() -> None:
    layers = [
        {
            "name": layer.name,
            "shape": layer.shape,
            "options": {"pattern": PATTERN},
            "removed": layer.removed,
            "relative_error": 0.0123,
            "seconds": 1234.5,
            "left_dense": "",
            "asked_dense": False,
            "verdict": "not decidable",
            "verified": False,
        }
        for layer in planned()
    ]
    rows = [prune_tables._record_row("down_proj 16384 x 53248, " + PATTERN, layers)]
    lines = check(prune_tables.RECORD_HEADINGS, rows)
    assert any("466,641.0" in line for line in lines)


def test_the_bytes_of_a_large_model() -> None:
    sizes = PackedSizes({})
    for layer in planned():
        packed = PackedLayer(layer.name, layer.shape, PATTERN)
        packed.forms.add("compact")
        packed.bytes = (2 * layer.weights, 3 * layer.weights // 2)
        sizes.layers[layer.name] = packed
    lines = check(checkpoints.PACK_HEADINGS, checkpoints._size_rows(sizes))
    assert any("439,697,276,928" in line for line in lines)


TABLES = {
    "numbers": (["a", *map(str, range(30))], [["first", *["12,345,678"] * 30]] * 2),
    "no row": (["a", "b"], []),
    "empty cells": (["a", "b"], [["", ""], ["x", ""]]),
    "wide characters": (["层", "数"], [["解码器 块", "12,345"]]),
    "long text": (["run", "n"], [[" ".join(["word"] * 60), "1"]]),
    "one column": (["a"], [["x"]]),
}


@pytest.mark.parametrize("case", TABLES)
def test_any_table(case: str) -> None:
    headings, rows = TABLES[case]
    check(list(headings), [[*row] for row in rows])


def test_only_a_word_wider_than_the_table_is_cut() -> None:
    name = "model.layers." + "x" * 100
    lines = list(table_lines(["matrix", "zeros", "lost"], [[name, "1,234,567", "12"]], WIDTH))
    assert max(map(cell_len, lines)) <= WIDTH
    assert name in re.sub(r"[\s\d,]|─|matrix|zeros|lost", "", "".join(lines))
    assert any("1,234,567" in line for line in lines)


def test_the_commands_print_80_columns_into_a_file(
    thanos: Thanos, dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # of some terminal: a file has none
    (tmp_path / "recipe.toml").write_text(
        'pattern = "unstructured:0.333333"\n[[rules]]\nlayers = "*.down_proj"\n'
        'pattern = "structured:0.25+outliers:0.125"\n'
    )
    out, grams = tmp_path / "out", tmp_path / "grams"
    command = ("prune", dense, "--recipe", tmp_path / "recipe.toml", *SMALL)
    printed = [
        thanos(*command, "--dry-run"),
        thanos(*command, "--out", out, "--keep-gram", grams),
        thanos("certify", dense, out, "--gram", grams),
        thanos("inspect", out, "--layers"),
        thanos("pack", out, "--out", tmp_path / "packed"),
        thanos("eval", out, "--seqlen", 32, "--max-windows", 2),
    ]
    assert [done.status for done in printed] == [0] * len(printed)
    for done in printed:
        lines = done.out.splitlines()
        rules = [number for number, line in enumerate(lines) if line.startswith("──")]
        assert rules
        for number in rules:
            width = len(lines[number])
            assert len(lines[number - 1]) <= width <= WIDTH
            assert len(lines[number + 1]) <= width
