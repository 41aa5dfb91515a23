"""What the first lines of the page say of Thanos against SparseGPT, and how sure they are."""

from typing import Any

import pytest

from tests.benchmarks.cost.made import known, results
from verification.benchmarks.pages.cost_between import between_methods

SQUARE = [2048, 2048]


@pytest.fixture(name="study")
def even() -> dict[str, Any]:
    """Every layer takes a second and a byte, whatever prunes it; repeats are alike."""
    study = results(known())
    for _, layer in _layers(study):
        layer |= {"seconds": 1.0, "repeats": [1.0] * 3, "spread": 0.0, "peak_memory_bytes": 1}
    return study


def _layers(study: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Options and record of each."""
    return [(each["run"], layer) for each in study["runs"] for layer in each["layers"]]


def _layer(study: dict[str, Any], shape: list[int], **asked: Any) -> dict[str, Any]:
    options = {"pattern": "unstructured:0.5", "block_size": 128, "refit_steps": 0, **asked}
    return next(layer for run, layer in _layers(study) if (run, layer["shape"]) == (options, shape))


def _line(study: dict[str, Any], start: str) -> str:
    return next(line for line in between_methods(study) if line.startswith(start))


def test_the_papers_block_size_has_a_line(study: dict[str, Any]) -> None:
    _layer(study, SQUARE, method="thanos", block_size=512).update(seconds=3.0, peak_memory_bytes=2)
    _layer(study, SQUARE, method="thanos", block_size=256)["seconds"] = 7.0
    assert _line(study, "- **unstructured:0.5, B = 512**") == (
        "- **unstructured:0.5, B = 512**, the paper's block size: 3.00 times the seconds of "
        "SparseGPT, 2.00 times the memory, on 1 layer, 2048 x 2048. Slower: repeats differ by up "
        "to 0%."
    )
    text = "\n".join(between_methods(study))
    assert "7.00" not in text
    assert "Not measured here: 4:8, patterns with outlier rows, 2:4 with B = 512." in text


def test_the_papers_block_size_has_none_where_it_was_not_measured(study: dict[str, Any]) -> None:
    study["runs"] = [each for each in study["runs"] if each["run"]["block_size"] != 512]
    text = "\n".join(between_methods(study))
    assert "**unstructured:0.5**" in text
    assert "paper's block size" not in text
    assert "outlier rows, unstructured:0.5 and 2:4 with B = 512." in text


def test_ratios_within_the_repeats_are_no_differences(study: dict[str, Any]) -> None:
    assert "No difference shown on any: repeats differ by up to 0%." in _line(study, "- **2:4**")
    own = {"method": "thanos", "pattern": "2:4"}
    # Of five: within its own repeats, within those of the other, beyond them, and twice faster.
    _layer(study, [1024, 4096], **own).update(seconds=1.2, spread=0.25)
    _layer(study, [4096, 1024], **own)["seconds"] = 1.2
    _layer(study, [4096, 1024], **{**own, "method": "sparsegpt"})["spread"] = 0.3
    _layer(study, SQUARE, **own).update(seconds=1.2, spread=0.1)
    _layer(study, [3072, 3072], **own).update(seconds=0.5, spread=0.99)
    _layer(study, [4096, 4096], **own)["seconds"] = 0.9
    line = _line(study, "- **2:4**")
    assert "0.50 to 1.20 times the seconds of SparseGPT" in line
    assert line.endswith(
        "Slower on 1, faster on 2, no difference shown on 2: repeats differ by up to 99%."
    )


def test_the_number_of_repeats_is_that_of_the_layers_compared(study: dict[str, Any]) -> None:
    assert "Seconds are medians of 3 repeats." in "\n".join(between_methods(study))
    _layer(study, [256, 256], method="thanos")["repeats"] = [1.0] * 15  # too small to count here
    _layer(study, SQUARE, method="sparsegpt")["repeats"] = [1.0] * 4
    _layer(study, SQUARE, method="thanos", refit_steps=10)["repeats"] = [1.0] * 2
    assert "Seconds are medians of 2 to 4 repeats." in "\n".join(between_methods(study))


def test_times_of_what_failed_its_certificate_do_not_count(study: dict[str, Any]) -> None:
    _layer(study, SQUARE, method="thanos", pattern="2:4").update(seconds=9.0, passed=False)
    line = _line(study, "- **2:4**")
    assert "1.00 times the seconds of SparseGPT" in line
    assert "on 4 layers" in line
