"""Pages: marks that are filled, comparisons, verdicts, pictures, and the report."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot as plt

from verification.benchmarks.pages.build import PAGES, REPORT, write_fresh
from verification.benchmarks.pages.drawn import digest_of
from verification.benchmarks.pages.marks import fill
from verification.benchmarks.pages.numbers import number
from verification.benchmarks.pages.report import html_report
from verification.benchmarks.pages.studies import NotMeasuredError, Results, StudyRuns
from verification.benchmarks.pages.style import save
from verification.benchmarks.pages.tables import percent, perplexity
from verification.benchmarks.pages.verdicts import check
from verification.benchmarks.pages.zero_shot import telling
from verification.benchmarks.quality.families import SEEDS
from verification.benchmarks.quality.plan import Run, dense_runs
from verification.benchmarks.quality.profiles import (
    SWEEP,
    headline_runs,
    outlier_runs,
    pattern_runs,
    quick_runs,
    sweep_runs,
)
from verification.benchmarks.statistics import Estimate

ORIGIN = {
    "command": "thanos bench",
    "commit": "abc",
    "machine": "a machine",
    "date": "2026-01-01T00:00:00+00:00",
    "versions": {"torch": "2"},
    "jobs": 2,
}
LOSSES = {"dense": 3.0, "magnitude": 5.0, "wanda": 3.6, "sparsegpt": 3.5, "thanos": 3.4}
# Accuracies of the dense model: it beats guessing in the first task alone.
TASKS = {"piqa": 0.7, "boolq": 0.5}


def record(run: Run, loss: float) -> dict[str, Any]:
    """An invented record of a run with four windows of slightly different loss."""
    losses = [loss + 0.01 * number for number in range(4)]
    made = {
        **run.as_dict(),
        **{name: ORIGIN[name] for name in ("commit", "machine", "date")},
        "peak_memory_bytes": 2**30,
        "window_losses": losses,
        "perplexity": math.exp(sum(losses) / 4),
        "zero_shot": {
            "tasks": [
                {"task": task, "acc": right - 0.1 * (loss - 3), "acc_stderr": 0.05}
                for task, right in TASKS.items()
            ]
        },
    }
    if run.method == "dense":
        return made
    picture = {"layer": "a", "density": [[0.5] * 64] * 24}
    pruned = {"verified": True, "dense_error": loss / 90, "mask_picture": picture}
    layer = {"passed": True, "name": "layers.0.a", "dense_error": 0.1}
    return {**made, **pruned, "seconds": {"pruning": 9.0}, "layers": [layer]}


def content(runs: list[Run], losses: dict[str, float] = LOSSES) -> dict[str, Any]:
    """An invented results file."""
    made = [record(run, losses[run.method]) for run in [*dense_runs(runs), *runs]]
    return {**ORIGIN, "runs": made}


def write(folder: Path, name: str, results: dict[str, Any]) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "results.json").write_text(json.dumps(results))


def test_marks_are_filled_and_the_rest_of_the_page_stays() -> None:
    text = "a <!-- number: x -->old<!-- end --> b\n<!-- table: t -->\nold\n<!-- end of table -->\nc"
    filled = fill(text, lambda name: f"table {name}", lambda query: f"number {query}")
    assert filled == (
        "a <!-- number: x -->number x<!-- end --> b\n"
        "<!-- table: t -->\n\ntable t\n\n<!-- end of table -->\nc"
    )
    assert fill(filled, lambda name: f"table {name}", lambda query: f"number {query}") == filled


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a <!-- number: x -->1", "all marks must be closed, got 1 marks, 0 closed"),
        ("a\n<!-- number: x -->1<!-- end -->", "a number must not begin a line"),
    ],
)
def test_a_page_with_a_wrong_mark_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fill(text, str, str)


def test_numbers_are_asked_for_in_words(tmp_path: Path) -> None:
    write(tmp_path, "quick", content(list(quick_runs())))
    write(tmp_path, "inference", {**ORIGIN, "runs": [{"bytes": [30, 40]}]})
    results = Results(tmp_path)
    assert number(results, "dense quick") == "20.4"
    assert number(results, "perplexity quick: thanos 2:4") == "30.4"
    assert number(results, "change quick: thanos 2:4 / sparsegpt 2:4") == "−10 %"
    assert number(results, "less quick: thanos 2:4 / sparsegpt 2:4") == "10 %"
    assert number(results, "times quick: thanos 2:4") == "1.5"
    assert number(results, "value inference: runs.0.bytes.1 ,d") == "40"
    assert number(results, "value inference: runs.0.bytes.0 / runs.0.bytes.1 .0%") == "75 %"
    with pytest.raises(ValueError, match=r"number must ask for one of .*, got 'guess quick'"):
        number(results, "guess quick")
    with pytest.raises(NotMeasuredError, match=r"run must be one of .*, got 'thanos 9:9'"):
        number(results, "perplexity quick: thanos 9:9")


def test_what_two_files_measured_counts_once_and_magnitude_counts_on_every_draw() -> None:
    studies = [content(list(headline_runs(seed))) for seed in SEEDS]
    study = StudyRuns((*studies, studies[0]))
    assert len(study.runs["thanos 2:4"]) == len(SEEDS)
    assert len(study.runs["magnitude 2:4"]) == 1
    assert len(study.compare("thanos 2:4", "magnitude 2:4").own) == len(SEEDS)
    assert len(study.compare("magnitude 2:4", "thanos 2:4").own) == len(SEEDS)


def test_several_draws_are_compared_draw_by_draw_and_one_draw_window_by_window() -> None:
    noise = {0: 0.0, 1: 0.5, 2: -0.4}  # of the draw: far more than the methods differ
    runs = [
        replace(SWEEP, method=method, calibration=replace(SWEEP.calibration, seed=seed))
        for method in ("sparsegpt", "thanos")
        for seed in SEEDS
    ]
    made = content(runs)
    for each, run in zip(made["runs"][1:], runs, strict=True):
        each |= record(run, LOSSES[run.method] + noise[run.calibration.seed])
    names = ("thanos unstructured:0.5", "sparsegpt unstructured:0.5")
    several = StudyRuns((made,)).compare(*names)
    assert several.verdict == "lower"
    assert several.perplexity.value == pytest.approx(math.exp(-0.1))
    one = StudyRuns(({**made, "runs": [made["runs"][0], *made["runs"][1::3]]},)).compare(*names)
    low, high = one.perplexity.low, one.perplexity.high
    assert low is not None
    assert high is not None
    assert high - low > 0.005  # rounding, though all windows agree


def test_a_ruined_or_useless_model_is_no_evidence() -> None:
    def usable(dense: float, best: float) -> bool:
        losses = {"dense": dense, "thanos": best, "sparsegpt": best + 1}
        runs = [replace(SWEEP, method=method) for method in ("sparsegpt", "thanos")]
        study = StudyRuns((content(runs, losses),))
        return study.compare("thanos unstructured:0.5", "sparsegpt unstructured:0.5").usable

    assert usable(3.0, 3.0 + math.log(9))
    assert not usable(3.0, 3.0 + math.log(11))
    assert not usable(math.log(110), math.log(120))


def test_accuracy_counts_the_tasks_in_which_the_dense_model_beats_guessing() -> None:
    study = StudyRuns((content(list(headline_runs(0))),))
    assert telling(study) == ["piqa"]
    ahead = study.compare("thanos 2:4", "sparsegpt 2:4").accuracy(["piqa"])
    assert ahead.value == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("line", "holds"),
    [
        ("thanos 2:4: perplexity lower than sparsegpt, in quick", True),
        ("thanos 2:4: perplexity lower than the best other method, in quick", True),
        ("thanos 2:4: perplexity higher than sparsegpt, in quick", False),
        ("thanos 2:4: perplexity not shown to differ from sparsegpt, in quick", False),
        ("thanos 2:4: perplexity lower than sparsegpt, ruined, in quick", False),
        ("magnitude 2:4: perplexity higher than thanos, in quick", True),
    ],
)
def test_a_verdict_is_held_against_the_results(tmp_path: Path, line: str, holds: bool) -> None:
    write(tmp_path, "quick", content(list(quick_runs())))
    listed = tmp_path / "verdicts.toml"
    listed.write_text(f'page = ["{line}"]')
    (found,) = check(listed, Results(tmp_path))
    assert found.holds is holds
    listed.write_text('page = ["thanos wins"]')
    with pytest.raises(ValueError, match=r"a verdict of 'page' must be as in .* got 'thanos wins'"):
        list(check(listed, Results(tmp_path)))


def test_fresh_results_have_tables_and_pictures_as_far_as_they_were_measured(
    tmp_path: Path,
) -> None:
    assert write_fresh(tmp_path, tmp_path / "pages") == []
    write(tmp_path, "quick", content(list(quick_runs())))
    write(tmp_path, "sweep-high", content(list(sweep_runs(range(6, 10)))))
    write(tmp_path, "outliers", content(list(outlier_runs())))
    write(tmp_path, "patterns", content(list(pattern_runs())))
    *files, report = write_fresh(tmp_path, tmp_path / "pages")
    names = {file.stem for file in files}
    assert {"quick", "sweep", "outliers", "patterns"} <= names
    assert "headline" not in names
    text = (tmp_path / "pages" / "quick.md").read_text()
    assert "| 2:4 | thanos | 30.4 | 0.0378 | 9.0 | 1,024 | 1 of 1 |" in text
    assert "`thanos bench` at commit abc on a machine, torch 2, 2026-01-01" in text
    assert "all 12 layers certified" in text
    assert "![quick-perplexity](quick-perplexity.png)" in text
    assert report.name == REPORT


def test_a_failed_certificate_is_said_loudly(tmp_path: Path) -> None:
    made = content(list(quick_runs()))
    made["runs"][5]["layers"][0]["passed"] = False
    write(tmp_path, "quick", made)
    write_fresh(tmp_path, tmp_path / "pages")
    assert "1 of 12 layers FAILED" in (tmp_path / "pages" / "quick.md").read_text()


def test_a_damaged_results_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "outliers").mkdir()
    (tmp_path / "outliers" / "results.json").write_text("{")
    with pytest.raises(ValueError, match=r"outliers.results\.json is no results file"):
        write_fresh(tmp_path, tmp_path / "pages")


def test_tables_and_pictures_have_names_of_their_own() -> None:
    tables = [name for page in PAGES for name in page.tables]
    pictures = [name for page in PAGES for name in page.pictures]
    assert len({*tables}) == len(tables)
    assert len({*pictures}) == len(pictures)


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        (Estimate(0.95, 0.93, 0.97, 16), "−5.0 % (−7.0 to −3.0)"),
        (Estimate(1.02, 1.0004, 1.04, 16), "+2.00 % (+0.04 to +4.00)"),  # shows the side of 0
        (Estimate(0.9999, 0.9990, 1.0012, 16), "0.0 % (−0.1 to +0.1)"),
        (Estimate(0.9999, None, None, 1), "0.0 %"),
        (Estimate(16.4, None, None, 1), "+1,540.0 %"),
    ],
)
def test_a_difference_has_the_digits_that_show_it(ratio: Estimate, said: str) -> None:
    assert percent(ratio) == said


def test_a_perplexity_has_the_digits_that_matter() -> None:
    assert [perplexity(value) for value in (9.93, 999.94, 1583.2, 3.4e7)] == [
        "9.9", "999.9", "1,583", "3e+07",
    ]  # fmt: skip


def test_the_report_needs_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"picture")
    (tmp_path / "first.md").write_text(
        "# First <page>\n\n![A](a.png)\n\n[second](sub/second.md#here), [other](../x.md), "
        "[paper](https://arxiv.org)\n\n| a |\n| --- |\n| 1 |\n<!-- mark -->\n"
    )
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "second.md").write_text("# Second\n\n[first](../first.md)")
    files = {"first": tmp_path / "first.md", "second": tmp_path / "sub" / "second.md"}
    html = html_report(files)
    assert 'src="data:image/png;base64,cGljdHVyZQ=="' in html
    assert '<a href="#second">second</a>, other, <a href="https://arxiv.org">' in html
    assert '<a href="#first">first</a>' in html
    assert '<a href="#first">First &lt;page&gt;</a>' in html
    assert '<div class="scroll"><table>' in html
    assert "<!--" not in html
    assert not re.search(r'(src|href)="(?!data:|#|https://arxiv)', html)


def test_a_picture_knows_what_it_shows(tmp_path: Path) -> None:
    def drawn(value: float, name: str = "a", colour: str = "red", cell: float = 1.0) -> str:
        figure, panels = plt.subplots(1, 2)
        panels[0].plot([1, value], color=colour, label=name)
        panels[0].bar([0, 1], [value, 1])
        panels[0].legend()
        panels[1].imshow(np.full((2, 2), cell))
        save(figure, tmp_path / "a.png")
        return digest_of(tmp_path / "a.png")

    first = drawn(2.0)
    assert drawn(2.0 + 1e-9) == first  # another machine's rounding
    others = [drawn(2.001), drawn(2.0, "b"), drawn(2.0, colour="blue"), drawn(2.0, cell=0.9)]
    assert len({first, *others}) == 5
