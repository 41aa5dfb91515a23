"""docs/certificate.md shows what was recorded, and README and page promise the same."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.certificate.attacks import ATTACKS
from tests.certificate.attacks.__main__ import table
from tests.certificate.cost import table as cost_table
from tests.certificate.random_layers import DAMPING, PRECISIONS
from verification.thresholds import LARGEST_LOSS, REPLAY_EXCESS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "certificate.md").read_text()
RESULTS = ROOT / "docs" / "results"


def recorded(name: str) -> Any:
    return json.loads((RESULTS / name).read_text())


def between_marks(name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- end of {name} -->", PAGE, re.DOTALL)
    assert found
    return found[1].strip()


def test_the_table_of_attacks_is_that_of_the_recorded_search() -> None:
    assert between_marks("attacks") == table(recorded("soundness.json"))


def test_the_recorded_search_found_nothing_above_the_bounds() -> None:
    results = recorded("soundness.json")
    assert f"`{results['command']}`" in PAGE
    assert results["environment"]["commit"]
    assert results["environment"]["machine"]
    found = {each["name"]: each for each in results["attacks"]}
    assert set(found) == set(ATTACKS)
    for each in found.values():
        assert each["far_off"] > 0, each["name"]
        assert each["right"] > 0, each["name"]
        assert each["right_refused"] == 0, each["notes"]
        assert float(each["over_exact"]) <= 1, each["worst"]
        assert float(each["over_choices"]) <= 1, each["worst"]


def test_the_table_of_costs_is_that_of_the_record() -> None:
    record = recorded("certificate-cost.json")
    assert f"`{record['command']}`" in PAGE
    assert between_marks("cost") == cost_table(record)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_ten_thousand_right_layers_passed(precision: str) -> None:
    results = recorded("right-layers.json")
    assert results["damping"] == DAMPING == 0.01
    found = results["precisions"][precision]
    assert found["layers"] >= 10_000
    assert found["verdicts"] == {"passed": found["layers"]}, found["not passed"][:3]


def test_readme_and_page_promise_the_same() -> None:
    promise = re.search(r"Certified means\*\*: (.*?)\n\n", PAGE, re.DOTALL)
    assert promise
    words = promise[1].replace("\n> ", " ")
    assert " ".join(words.split()) in " ".join((ROOT / "README.md").read_text().split())
    share = (1 + REPLAY_EXCESS**0.5) ** 2 - 1
    assert f"{share:.2%}".replace("%", " %") in words
    assert f"at most {LARGEST_LOSS} times" in PAGE
