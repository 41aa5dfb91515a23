"""Published numbers come from the results file that is published with them."""

import json
import re
from pathlib import Path

from verification.benchmarks.report import markdown_page, markdown_table, source

from verification.benchmarks.speed.report import page, verdicts
from verification.benchmarks.speed.solvers import table as solver_table

ROOT = Path(__file__).parent.parent
QUICK = ROOT / "docs" / "results" / "quick"
RESULTS = json.loads((QUICK / "results.json").read_text())


def test_readme_shows_the_table_of_the_results_file() -> None:
    readme = (ROOT / "README.md").read_text()
    shown = re.search(r"<!-- table.*?-->\n(.*?)<!-- end of table -->", readme, re.DOTALL)
    assert shown is not None
    assert shown[1].strip() == f"{markdown_table(RESULTS)}\n\n{source(RESULTS)}"


def test_report_is_made_from_the_results_file() -> None:
    assert (QUICK / "report.md").read_text() == markdown_page(RESULTS)


def test_every_published_run_is_certified() -> None:
    pruned = RESULTS["runs"][1:]
    assert len(pruned) == 14
    for record in pruned:
        assert record["verified"]
        assert len(record["layers"]) == 210
        assert all(layer["passed"] for layer in record["layers"])


def test_the_page_on_solvers_shows_the_results_file() -> None:
    results = json.loads((ROOT / "docs" / "results" / "solvers.json").read_text())
    shown = re.search(
        r"<!-- table -->\n(.*?)<!-- end of table -->",
        (ROOT / "docs" / "solvers.md").read_text(),
        re.DOTALL,
    )
    assert shown is not None
    assert shown[1].strip() == solver_table(results)


SPEED = ROOT / "docs" / "results" / "speed"


def test_the_recorded_speed_holds_its_limits_and_its_page() -> None:
    results = json.loads((SPEED / "speed.json").read_text())
    assert (SPEED / "speed.md").read_text() == page(results)
    found = verdicts(results)
    assert len(found) == 6
    assert all(holds for _, holds, _ in found), found
    assert len(results["model"]["layers"]) == 210
