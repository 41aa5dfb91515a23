"""Slopes: one for what only rises, one for each side of what falls first."""

from typing import Any

import pytest
from matplotlib import pyplot as plt

from tests.benchmarks.cost.made import known, results
from verification.benchmarks.pages.cost_sections import growth
from verification.benchmarks.performance.growth import exponents, sides
from verification.benchmarks.performance.plots import _growth as growth_figure

WIDTHS = (16, 32, 64, 128, 256, 512, 1024)
ASKED = {"method": "thanos", "pattern": "unstructured:0.5", "refit_steps": 0}


def over_block_sizes(turn: int) -> dict[str, Any]:
    """A study whose time over B falls like 1 / B up to `turn` and rises like B² behind it."""
    study = results(known())
    study["runs"] = [
        {
            "run": {**ASKED, "block_size": B},
            "layers": [
                {
                    "shape": [1024, 1024],
                    "passed": True,
                    "seconds": turn / B if turn > B else (B / turn) ** 2,
                    "peak_memory_bytes": B**3 if turn < B else turn**4 // B,
                }
            ],
        }
        for B in WIDTHS
    ]
    study["growth"] = exponents(study)
    return study


def _line(study: dict[str, Any]) -> dict[str, Any]:
    return next(each for each in study["growth"] if each["variable"] == "B")


def test_a_time_with_its_least_in_between_has_a_slope_on_each_side() -> None:
    study = over_block_sizes(turn=64)
    falling, rising = sides(_line(study))
    assert (falling["values"], rising["values"]) == ([16, 32, 64], [64, 128, 256, 512, 1024])
    assert falling["time"] == pytest.approx(-1)
    assert rising["time"] == pytest.approx(2)
    assert falling["memory"] == pytest.approx(-1)
    assert rising["memory"] == pytest.approx(3)
    text = "\n".join(growth(study))
    name = "| thanos, unstructured:0.5 | B | "
    assert f"{name}16 to 64 | -1.00 | -1.00 (from 32) | -1.00 |" in text
    assert f"{name}64 to 1024 | 2.00 | 2.00 (from 512) | 3.00 |" in text
    assert text.count(name) == 2
    assert "is least at 64 on this layer" in text


def test_the_last_step_is_steeper_where_the_time_is_no_power() -> None:
    study = over_block_sizes(turn=64)
    one, other = (
        {**_line(study), "variable": name, "values": [1, 2, 4, 8], "time": 1.5}
        for name in ("c", "tokens")
    )
    study["growth"] = [
        {**one, "seconds": [1.0, 2.0, 4.0, 32.0]},
        {**other, "seconds": [1.0, 2.0, 4.0, 11.6]},
    ]
    text = "\n".join(growth(study))
    assert "| c | 1 to 8 | 1.50 | 3.00 (from 4) | " in text
    assert "| tokens | 1 to 8 | 1.50 | 1.54 (from 4) | " in text
    assert "It is more than the exponent by 0.1 or more in 1 of 2 rows: " in text
    assert "the last step counts more than the exponent" in text


@pytest.mark.parametrize("turn", [16, 32, 512, 1024])
def test_sides_of_two_values_have_no_slope(turn: int) -> None:
    study = over_block_sizes(turn)
    assert sides(_line(study)) == [_line(study)]
    assert "16 to 1024" in "\n".join(growth(study))
    assert "is least at" not in "\n".join(growth(study))


def test_sides_of_what_has_no_memory() -> None:
    line = {**_line(over_block_sizes(turn=64)), "bytes": [], "memory": None}
    assert [each["memory"] for each in sides(line)] == [None, None]


def test_the_picture_tells_the_same_slopes() -> None:
    study = over_block_sizes(turn=64)
    figure = growth_figure(study)
    said = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert said == ["slope -1.00, B = 16 to 64", "slope 2.00, B = 64 to 1024"]
    plt.close(figure)
