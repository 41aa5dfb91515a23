"""The list of public implementations, the driver on a stand-in, and published results."""

import json
import subprocess
import sysconfig
import venv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import reference
from verification.benchmarks.pages import scoreboard as tables
from verification.conformance import load_case, load_cases
from verification.conformance.callables import PythonFunction, load_callable
from verification.scoreboard import __main__ as driver
from verification.scoreboard.adapters.observed import Zeroed
from verification.scoreboard.badges import BADGES, badge, badge_text
from verification.scoreboard.implementations import Listed, read_list
from verification.scoreboard.judging import CAUSES, STATES, judged, row_of
from verification.scoreboard.record import RESULTS, read_record
from verification.scoreboard.sources import PINNED

ROOT = Path(__file__).parents[2]
ROWS = read_list()
OTHERS = [row for row in ROWS if row.source]
RECORD = read_record(ROOT / RESULTS)

# A stand-in for a public repository: its code is ours, and so is its adapter.
STAND_IN = """
import reference

def prune(weight, gram, pattern, block_size, damping):
    if {wrong}:
        weight = weight + 1
    pruned = reference.magnitude(weight, gram, reference.parse_pattern(pattern))
    return pruned.weight, pruned.mask

prune.patterns = ["unstructured"]
"""
LIST = """
[environments]
own = ["numpy=={numpy}"]
[sources.theirs]
repository = "https://example.org/theirs"
commit = "{commit}"
environment = "own"
path = "src"
[[implementations]]
name = "stand-in"
title = "a stand-in"
source = "theirs"
methods = ["magnitude"]
function = "stand_in:prune"
"""


def test_the_list_names_what_is_judged_exactly() -> None:
    for row in OTHERS:
        assert row.source
        assert row.source.version or len(row.source.commit) == 40, row.name
        pinned = [PINNED.fullmatch(each) for each in row.source.environment.requirements]
        assert any(each and each[1] == "torch" for each in pinned)
        assert bool(row.checks) == bool(row.label)
        assert set(row.checks) <= set(CAUSES)
    assert len(OTHERS) >= 6


@pytest.mark.parametrize("row", OTHERS, ids=lambda row: row.name)
def test_an_adapter_says_which_code_is_missing(row: Listed) -> None:
    with pytest.raises(ValueError, match="cannot be imported: No module named"):
        load_callable(row.function)


def test_what_is_not_found_is_named_with_the_commands_that_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scoreboard.json"
    chosen = [word for row in OTHERS for word in ("--only", row.name)]
    assert driver.main([str(tmp_path), "--out", str(out), *chosen]) == 2
    said = capsys.readouterr().err
    for row in OTHERS:
        assert row.source
        place = tmp_path / row.source.name
        if row.source.repository:
            assert f"git clone --quiet {row.source.repository} {place}\n" in said
            assert f"git -C {place} checkout --quiet {row.source.commit}\n" in said
        assert f" -m venv {tmp_path / 'environments' / row.source.environment.name}\n" in said
        assert " ".join(row.source.environment.requirements) in said
        assert row.name in said.splitlines()[-1]
    assert not out.exists()
    assert driver.main([str(tmp_path), "--commands", *chosen]) == 0
    commands = capsys.readouterr().out.splitlines()
    assert len(commands) == len(set(commands))
    assert all(f"      {command}\n" in said for command in commands)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{}/none"], "scoreboard: folder must exist, got "),
        (["{}", "--only", "nobody"], "scoreboard: only must be one of reference, "),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert driver.main([each.format(tmp_path) for each in arguments]) == 2
    assert message in capsys.readouterr().err


class StandIn:
    """A folder with a repository of a stand-in, its environment, and a list that names them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.code = folder / "theirs" / "src" / "stand_in.py"
        self.code.parent.mkdir(parents=True)
        self.write(wrong=False)
        self.git("init", "--quiet")
        self.git("add", ".")
        self.git("-c", "user.name=a", "-c", "user.email=a", "commit", "--quiet", "-m", "theirs")
        place = folder / "environments" / "own"
        venv.EnvBuilder(symlinks=True).create(place)
        (site,) = place.glob("lib/*/site-packages")
        (site / "judge.pth").write_text(sysconfig.get_path("purelib"))
        self.list = folder / "list.toml"
        commit = self.git("rev-parse", "HEAD")
        self.list.write_text(LIST.format(commit=commit, numpy=np.__version__))
        self.out, self.badges = folder / "scoreboard.json", folder / "badges"

    def write(self, wrong: bool) -> None:
        self.code.write_text(STAND_IN.format(wrong=wrong))

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.folder / "theirs"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def run(self, *more: str) -> int:
        given = ("--list", self.list, "--out", self.out, "--badges", self.badges, *more)
        return driver.main([str(self.folder), *map(str, given)])

    @property
    def row(self) -> dict[str, Any]:
        (row,) = json.loads(self.out.read_text())["implementations"]
        return row  # type: ignore[no-any-return]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    few = [case for case in load_cases() if case.id.startswith("magnitude-float64-0")]
    monkeypatch.setattr(driver, "load_cases", lambda: few)
    monkeypatch.setattr(driver, "fresh_cases", lambda seed, text: ())
    return StandIn(tmp_path)


def test_a_stand_in_is_judged_in_its_own_environment(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stand_in.run() == 0
    row = stand_in.row
    assert row["counts"]["passed"] == row["counts"]["supported"] == 9
    assert row["patterns"]["n:m"]["not supported"] == 9
    assert row["source"]["commit"] == stand_in.git("rev-parse", "HEAD")
    assert row["source"]["checked"]
    assert row["versions"]["numpy"] == np.__version__
    assert json.loads((stand_in.badges / "stand-in.json").read_text())["color"] == "brightgreen"

    stand_in.write(wrong=True)
    assert stand_in.run() == 2
    assert "theirs: its files were changed" in capsys.readouterr().err
    assert stand_in.row == row

    (stand_in.folder / "theirs" / ".git").rename(stand_in.folder / "elsewhere")
    assert stand_in.run() == 0  # as from an archive, which git cannot check
    row = stand_in.row
    assert not row["source"]["checked"]
    assert row["counts"]["failed"] > 0
    assert {each["check"] for each in row["deviations"]} <= set(CAUSES)
    assert row["deviations"][0]["smallest"].startswith("magnitude-float64-0")
    assert stand_in.run("--case", "magnitude-float64-06-unstructured") == 0
    assert "1 case: 0 passed, 1 failed" in capsys.readouterr().out
    assert stand_in.run("--case", "no-such-case") == 2
    assert "case must be part of the id" in capsys.readouterr().err


def test_an_implementation_that_cannot_be_imported_does_not_end_the_run(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in.list.write_text(stand_in.list.read_text().replace("stand_in:prune", "stand_in:none"))
    assert stand_in.run() == 2
    assert "stand-in: not judged: implementation 'stand_in:none'" in capsys.readouterr().err
    assert not stand_in.out.exists()


def moved(weight: Any, gram: Any, pattern: str, block_size: int, damping: float) -> Any:
    """Thanos whose kept weights are off."""
    pruned = reference.thanos(
        weight, gram, reference.parse_pattern(pattern), block_size=block_size, damping=damping
    )
    return np.where(pruned.mask, 0.0, pruned.weight + 1), pruned.mask


def test_a_variant_is_judged_by_the_checks_of_its_row_alone() -> None:
    cases = [load_case("thanos-float64-06-unstructured")]
    function = PythonFunction(moved, "thanos", "moved")
    for checks, state in (((), "failed"), (("counts", "zeros"), "passed")):
        row = Listed("moved", "moved", ("thanos",), "moved:moved", checks=checks)
        found = row_of(row, judged(row, function, cases, seed=1), function.capabilities)
        assert found["counts"][state] == 1
        assert tuple(found["counts"]) == STATES


def test_masks_are_observed_also_where_kept_weights_are_zero() -> None:
    W = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 4.0]])
    first, rest = torch.tensor([False, True]), torch.tensor([[True, False], [False, True]])
    with Zeroed(2) as zeroed:
        column, block = W[:, 0].clone(), W[:, 1:]
        column[first] = 0
        block[rest] = 0.0
        block[rest] = block[rest]  # no choice
    assert zeroed.mask().tolist() == [[False, True, False], [True, False, True]]


def test_badges_are_those_of_the_results() -> None:
    files = {file.name: file.read_text() for file in (ROOT / BADGES).glob("*.json")}
    rows = RECORD["implementations"]
    assert files == {f"{row['name']}.json": badge_text(row) for row in rows}
    for row in rows:
        shown = badge(row)
        assert set(shown) == {"schemaVersion", "label", "message", "color"}
        assert shown["schemaVersion"] == 1
        assert (shown["color"] == "brightgreen") == (row["counts"]["failed"] == 0)


def test_every_row_is_recorded_from_the_code_that_the_list_names() -> None:
    found = {row["name"]: row for row in RECORD["implementations"]}
    assert list(found) == [row.name for row in ROWS]
    for row in ROWS:
        source, recorded = row.source, found[row.name]
        assert recorded["judged_for"] == row.judged_for
        assert tuple(recorded["checks"]) == row.checks
        assert "dirty" not in recorded["judged"]["commit"]
        if source:
            assert recorded["source"].get("commit", "") == source.commit
            assert recorded["source"].get("version", "") == source.version
    ours = [found["reference"], found["thanos-torch"]]
    assert all(row["counts"]["failed"] == row["counts"]["not supported"] == 0 for row in ours)


def test_the_sentences_on_the_scoreboard_hold() -> None:
    """docs/scoreboard.md and docs/bugs-found.md: a result that contradicts them fails here."""
    found = {row["name"]: row for row in RECORD["implementations"]}
    failing = {name for name, row in found.items() if row["counts"]["failed"]}
    assert failing == {row.name for row in OTHERS}
    counts = {name: row["cases_by_checks"] for name, row in found.items()}
    # Copies deviate where the published code does.
    assert counts["optima-thanos"] == counts["published-thanos"]
    assert counts["llm-compressor-wanda"] == counts["published-wanda"]
    # llm-compressor goes on where the published SparseGPT raises an error.
    assert "output" in counts["published-sparsegpt"]
    assert "output" not in " ".join(counts["llm-compressor-sparsegpt"])
    for name in ("model-optimizer-sparsegpt", "model-optimizer-magnitude"):
        assert counts[name]["zeros"] > sum(counts[name].values()) / 2
    assert not found["published-thanos"]["patterns"]["n:m"]["passed"]


def test_text_of_others_cannot_break_a_table() -> None:
    row = {"explanation": None, "failed": ["FAILED output | <b> a_b"]}
    assert tables._said(row) == "output / &lt;b> a\\_b"
