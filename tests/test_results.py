"""Published pages and numbers come from the results files that are published with them."""

import json
import math
import re
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from thanos_torch.cli.display import command_line
from verification.benchmarks.comparing.compare import compare
from verification.benchmarks.comparing.noise import ROUNDING_OF_PERPLEXITY
from verification.benchmarks.pages.build import PAGES, REPORT, filled, published, sections
from verification.benchmarks.pages.cost import SPEED
from verification.benchmarks.pages.drawn import digest_of
from verification.benchmarks.pages.report import html_report
from verification.benchmarks.pages.studies import PARTS, ROUNDING, Results
from verification.benchmarks.pages.verdicts import check
from verification.benchmarks.quality.profiles import quick_study
from verification.benchmarks.results import RECORDED, read_draws, read_results
from verification.benchmarks.statistics import Spread

ROOT = Path(__file__).parent.parent
PUBLISHED = ROOT / "docs" / "results"
STUDY = ROOT / "docs" / "study"
QUICK = json.loads((PUBLISHED / "quick" / "results.json").read_text())


@pytest.fixture(scope="module")
def results() -> Results:
    """All that is published, each file of which is read once."""
    return Results(PUBLISHED)


@pytest.mark.parametrize("page", published(ROOT), ids=lambda page: page.stem)
def test_tables_and_numbers_of_a_page_are_those_of_the_results(
    page: Path, results: Results
) -> None:
    text = page.read_text()
    assert filled(text, results) == text


def test_pictures_and_report_are_made_from_the_results(tmp_path: Path, results: Results) -> None:
    drawn = {}
    for page in PAGES:
        folder = PUBLISHED / "speed" if page is SPEED else STUDY
        for file in page.draw(results, tmp_path):
            drawn[folder / file.name] = digest_of(file)
    assert {*STUDY.glob("*.png")} == {file for file in drawn if file.parent == STUDY}
    for file, digest in drawn.items():
        assert digest_of(file) == digest, file
    report = (STUDY / REPORT).read_text()
    in_report = re.findall(r'src="data:image/png;base64,([^"]*)', report)
    assert {b64decode(each) for each in in_report} == {file.read_bytes() for file in drawn}
    assert report == html_report(sections(ROOT))


def test_every_page_of_the_study_is_in_the_report() -> None:
    assert {*STUDY.glob("*.md")} <= {*sections(ROOT).values()}


def test_the_verdicts_that_pages_rest_on_are_those_of_the_results(results: Results) -> None:
    wrong = [each for each in check(STUDY / "verdicts.toml", results) if not each.holds]
    assert not wrong, "\n".join(f"{each.page}: {each.line}: is {each.found}" for each in wrong)


def test_a_flipped_sign_in_the_results_fails_the_verdicts(tmp_path: Path) -> None:
    """Thanos and SparseGPT exchange their names in one study."""
    for folder in PUBLISHED.glob("*/results.json"):
        target = tmp_path / folder.parent.name / "results.json"
        target.parent.mkdir()
        text = folder.read_text()
        if folder.parent.name == "quick":
            for old, new in (("thanos", "x"), ("sparsegpt", "thanos"), ("x", "sparsegpt")):
                text = text.replace(f'"method": "{old}"', f'"method": "{new}"')
        target.write_text(text)
    wrong = [each for each in check(STUDY / "verdicts.toml", Results(tmp_path)) if not each.holds]
    assert wrong
    assert all(each.line.endswith("in quick") for each in wrong)


@pytest.mark.parametrize(
    ("studies", "rounding"),
    [
        (("sweep-low", "components-0"), ROUNDING["unstructured"]),
        (("outliers", "patterns"), ROUNDING["structured"]),
        (("rounding/quick-first.json", "rounding/quick-again.json"), ROUNDING["semi-structured"]),
    ],
)
def test_rounding_is_what_two_made_of_the_same_runs(
    studies: tuple[str, str], rounding: Spread
) -> None:
    """Two machines, or two commits; of the quick benchmark, which has all patterns, in 2:4."""
    runs = []
    for name in studies:
        file = read_results(PUBLISHED / name).file
        records = json.loads(file.read_text())["runs"]
        if "quick" in name:
            records = [each for each in records if each["run"]["pattern"] == "2:4"]
        runs.append({_made_from(each): each for each in records if "layers" in each})
    first, second = runs
    moved = [
        math.log(second[what]["perplexity"] / first[what]["perplexity"])
        for what in first.keys() & second.keys()
    ]
    assert len(moved) == rounding.freedom
    deviation = math.sqrt(sum(each**2 for each in moved) / len(moved))
    assert rounding.deviation == pytest.approx(deviation, abs=5e-4)
    assert max(map(abs, moved)) < ROUNDING_OF_PERPLEXITY  # what `bench compare` lets pass


def _made_from(record: dict[str, Any]) -> str:
    """What was done, with which tokens."""
    asked = [record[name] for name in ("run", "model", "calibration", "evaluation")]
    texts = [record[f"{name}_text"]["windows_sha256"] for name in ("calibration", "evaluation")]
    return json.dumps([asked, texts], sort_keys=True)


def test_studies_that_differ_by_their_draw_alone_are_judged_and_are_no_regression() -> None:
    before, after = (read_results(PUBLISHED / f"components-{seed}") for seed in (0, 1))
    found = compare(before, after, read_draws(RECORDED))
    assert found.regressions == []
    judged = {pair.key.label for pair in found.pairs if pair.judged and pair.pruned}
    assert judged == {f"{method} unstructured:0.5" for method in ("thanos", "sparsegpt")}


def test_published_results_hold_no_paths_of_the_machine_that_measured_them() -> None:
    # Control groups are Linux's own, and the disk that runs full is mounted under this name.
    for file in PUBLISHED.rglob("*.json"):
        assert not re.search(r'["= ]/(?!disk/|sys/fs/cgroup/)\w+/', file.read_text()), file


def test_every_results_file_names_the_commit_and_the_machine_that_it_is_from() -> None:
    for file in PUBLISHED.rglob("*.json"):
        results = json.loads(file.read_text())
        origin = results.get("environment", results)
        assert re.fullmatch(r"[0-9a-f]{12}", origin["commit"]), file
        assert origin["machine"], file


def test_a_command_is_recorded_without_the_folders_above_its_paths(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = ["thanos", "bench", "--data", "/home/me/data", "--out", "results/a"]
    monkeypatch.setattr("sys.argv", given)
    assert command_line() == "thanos bench --data data --out results/a"


def test_every_published_run_is_certified_and_says_where_it_is_from() -> None:
    studies = {"inference", "cost", *(part for parts in PARTS.values() for part in parts)}
    found = [file for file in PUBLISHED.glob("*/results.json") if file.parent.name in studies]
    assert PUBLISHED / "quick" / "results.json" in found
    for file in found:
        results = json.loads(file.read_text())
        assert "dirty" not in results["commit"]
        commands_own = file.parent.name in ("inference", "cost")  # made in one go, without studies
        for record in results["runs"]:
            origin = results if commands_own else record
            assert origin["commit"]
            assert origin["machine"]
            assert record["run"]["method"] == "dense" or record["verified"] is True
            for layer in record.get("layers", []):
                assert layer["passed"], (file, record["run"], layer["name"])
            if not commands_own:
                assert ("layers" in record) == (record["run"]["method"] != "dense")


def test_the_quick_results_are_those_of_the_quick_profile() -> None:
    planned = [run.as_dict() for run in quick_study().runs]
    found = [record for record in QUICK["runs"] if "layers" in record]
    for record, wanted in zip(found, planned, strict=True):
        assert {name: record[name] for name in wanted} == wanted
        assert len(record["layers"]) == 210
