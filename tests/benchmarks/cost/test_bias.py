"""Which way the model errs, in words and by size: of predictions that were made up."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.benchmarks.cost.made import known, results
from verification.benchmarks.pages.cost import page
from verification.benchmarks.pages.cost_bias import by_size, in_answer, on_the_largest, wider_blocks
from verification.benchmarks.pages.cost_sections import UNCHECKED, margin, predictions
from verification.benchmarks.performance import cost
from verification.benchmarks.performance.cost_model import label

THANOS = {
    "method": "thanos",
    "pattern": "unstructured:0.5",
    "block_size": 128,
    "refit_steps": 0,
}
WANDA, SPARSEGPT = {**THANOS, "method": "wanda"}, {**THANOS, "method": "sparsegpt"}
LARGE, SMALL, WIDE = "4096 x 4096", "768 x 768", "512 x 4096"


def _compared(
    quantity: str,
    options: Mapping[str, Any] | None,
    where: str,
    error: float,
    held_out: bool = True,
) -> dict[str, Any]:
    what = f"{label(options)}, {where}" if options else where
    return {"quantity": quantity, "run": options, "what": what, "held_out": held_out,
            "error": error}  # fmt: skip


def _study(*comparisons: dict[str, Any]) -> dict[str, Any]:
    models = [{"model": f"Llama-3 {size}"} for size in ("8B", "70B", "405B")]
    return {"comparisons": list(comparisons), "predictions": models}


def _errors(pruning: Mapping[str, float], certificate: Mapping[str, float]) -> dict[str, Any]:
    """Of Thanos and Wanda on the largest layers, and what must not be mistaken for that."""
    found = []
    for quantity, errors in (("pruning", pruning), ("certificate", certificate)):
        found += [
            _compared(quantity, THANOS, LARGE, errors["thanos"]),
            _compared(quantity, WANDA, LARGE, errors["wanda"]),
            _compared(quantity, THANOS, SMALL, 0.5),
            _compared(quantity, THANOS, "9216 x 9216", 0.6, False),
            _compared(quantity, {**THANOS, "block_size": 96}, "8192 x 8192", 0.7),
        ]
    return _study(*found)


LOW, HIGH, BOTH = (
    dict(zip(("thanos", "wanda"), errors, strict=True))
    for errors in ((-0.05, -0.25), (0.25, 0.05), (-0.3, 0.1))
)
SAID = {
    "low": "too low in all 2 cases (-15% in the mean, -25% to -5%; "
    "-5% for this method and pattern)",
    "high": "too high in all 2 cases (+15% in the mean, +5% to +25%; "
    "+25% for this method and pattern)",
    "both": "on both sides, too low in 1 and too high in 1 of 2 cases (-10% in the mean, "
    "-30% to +10%; -30% for this method and pattern)",
}
UNKNOWN = " for larger layers, by how much is not known."


@pytest.mark.parametrize(
    ("pruning", "certificate", "follows"),
    [
        ("low", "both", f"What is predicted of pruning is probably too low{UNKNOWN}"),
        ("low", "low", f"What is predicted of pruning and certifying is probably too low{UNKNOWN}"),
        ("high", "both", f"What is predicted of pruning is probably too high{UNKNOWN}"),
        ("low", "high", "What is predicted of pruning is probably too low and of certifying is "
         f"probably too high{UNKNOWN}"),
        ("both", "both", "Which way predictions of larger layers err is not known."),
    ],
)  # fmt: skip
def test_the_answer_says_which_way_its_predictions_err(
    pruning: str, certificate: str, follows: str
) -> None:
    errors = {"low": LOW, "high": HIGH, "both": BOTH}
    assert in_answer(_errors(errors[pruning], errors[certificate])) == [
        "",
        "Which way these err: on the largest held-out layers, 4096 x 4096 with B = 128, what the "
        f"model says of pruning is {SAID[pruning]}, of certifying is {SAID[certificate]}. Llama's "
        f"largest layers have 3.5 to 52 times as many weights. {follows}",
    ]


def test_errors_of_no_percent_are_to_no_side() -> None:
    nearly = dict.fromkeys(("thanos", "wanda"), -0.004)
    (_, text) = in_answer(_errors(nearly, {**nearly, "wanda": -0.02}))
    assert "of pruning is too low in 0 and too high in 0 of 2 cases (0% in the mean, 0%;" in text
    assert "of certifying is too low in 1 and too high in 0 of 2 cases (-1% in the mean, " in text
    assert "Which way predictions of larger layers err is not known." in text


def test_beside_all_predictions_are_the_errors_of_all_that_they_are_made_of() -> None:
    study = _errors(LOW, BOTH)
    batches = "4096 columns, 2048 tokens", "2048 columns, 2048 tokens"
    study["comparisons"] += [
        _compared("gram", None, batches[0], -0.04),
        _compared("gram", None, "768 columns, 2048 tokens", 0.2),
        _compared("gram", None, "8192 columns, 2048 tokens", 0.3, False),
        _compared("pass", None, batches[1], 0.07),
    ]
    text, end = on_the_largest(study)
    assert end == ""
    low, both = (SAID[name].partition(";")[0] + ")" for name in ("low", "both"))
    assert text == (
        "*Which way the model errs*, on the largest held-out sizes, of layers with B = 128: "
        f"pruning, {LARGE}: {low}; certifying, {LARGE}: {both}; "
        f"Gram matrices, {batches[0]}: too low in the one case (-4%); "
        f"passes, {batches[1]}: too high in the one case (+7%). Llama's largest layers have 3.5 to "
        "52 times as many weights. What is predicted of pruning and Gram matrices is probably too "
        f"low and of passes is probably too high{UNKNOWN}"
    )


def test_how_far_predictions_go_is_of_the_models_that_are_predicted() -> None:
    study = _errors(LOW, LOW)
    assert "3.5 times as many" in in_answer({**study, "predictions": study["predictions"][:1]})[1]
    assert "times as many" not in in_answer({**study, "predictions": []})[1]


def test_without_held_out_layers_nothing_is_said() -> None:
    for found in (_study(), _study(_compared("pruning", THANOS, LARGE, -0.1, False))):
        assert in_answer(found) == on_the_largest(found) == by_size(found) == []


def _sized(where: str, *errors: tuple[float, float]) -> list[dict[str, Any]]:
    runs = (THANOS, SPARSEGPT, WANDA)
    return [
        _compared(quantity, options, where, error)
        for options, both in zip(runs, errors, strict=False)
        for quantity, error in zip(("pruning", "certificate"), both, strict=True)
    ]


def test_signed_errors_by_size_from_the_smallest_to_the_largest() -> None:
    study = _study(
        *_sized(LARGE, (-0.1, -0.3), (-0.2, 0.2)),
        *_sized(WIDE, (-0.02, 0.1), (0.06, 0.1), (0.1, 0.1)),
        *_sized(SMALL, (0.1, 0.0), (0.2, -0.04), (0.9, 0.6)),
        _compared("pruning", {**THANOS, "block_size": 96}, LARGE, 9.0),
        _compared("pruning", THANOS, LARGE, 9.0, False),
        _compared("memory", THANOS, LARGE, 9.0),
    )
    text = "\n".join(by_size(study))
    rows = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert rows == [
        f"| {SMALL} | 3 | +40% (+10% to +90%) | +19% (-4% to +60%) |",
        f"| {WIDE} | 3 | +5% (-2% to +10%) | +10% (+10%) |",
        f"| {LARGE} | 2 | -15% (-20% to -10%) | -5% (-30% to +20%) |",
    ]
    assert "Below 0 the model says too little." in text
    # Without Wanda's, which the largest size has not: they would be part of the change.
    assert text.rstrip().endswith(
        "Over the 2 methods and patterns that all these sizes have, the mean goes, of pruning from "
        "+15% on the smallest size to -15% on the largest, of certifying from -2% on the smallest "
        "size to -5% on the largest."
    )


def test_one_size_has_no_change() -> None:
    text = "\n".join(by_size(_study(*_sized(SMALL, (0.1, 0.2)))))
    assert f"| {SMALL} | 1 | +10% (+10%) | +20% (+20%) |" in text
    assert "Over the" not in text


@pytest.mark.parametrize(
    ("errors", "side"),
    [
        ((-0.28, -0.12), "too low in all 2 cases: -12% at B = 512, -28% at B = 1024."),
        ((0.28, 0.12), "too high in all 2 cases: +12% at B = 512, +28% at B = 1024."),
        ((0.28, -0.12), "on both sides, too low in 1 and too high in 1 of 2 cases: -12% at "
         "B = 512, +28% at B = 1024."),
    ],
)  # fmt: skip
def test_wider_blocks_are_told_of_the_largest_fitted_layer(
    errors: tuple[float, float], side: str
) -> None:
    wide = [{**THANOS, "block_size": B} for B in (1024, 512)]
    study = _study(
        *(_compared("pruning", options, "2048 x 2048", error, False)
          for options, error in zip(wide, errors, strict=True)),
        _compared("pruning", wide[1], "512 x 512", 0.5, False),
        _compared("pruning", wide[1], LARGE, 0.5),
        _compared("pruning", THANOS, LARGE, 0.5, False),
        _compared("certificate", wide[1], "2048 x 2048", 0.5, False),
        _compared("gram", None, "4096 columns, 2048 tokens", 0.5, False),
    )  # fmt: skip
    assert wider_blocks(study) == (
        " On the largest layer that was fitted with a B larger than 128, 2048 x 2048, what the "
        f"model says of pruning is {side}"
    )
    assert wider_blocks(_study(study["comparisons"][-1])) == ""


@pytest.fixture(name="study", scope="module")
def made() -> dict[str, Any]:
    study = results(known())
    return study | cost.conclusions(study)


@pytest.mark.parametrize("other", ["method", "pattern", "block_size", "refit_steps"])
def test_a_margin_rests_on_layers_like_its_row(other: str) -> None:
    value = {"method": "wanda", "pattern": "2:4", "block_size": 512, "refit_steps": 10}[other]
    unlike = {**THANOS, other: value}
    study = _study(
        _compared("pruning", THANOS, LARGE, -0.2),
        _compared("pruning", THANOS, SMALL, 0.1),
        _compared("pruning", THANOS, "512 x 512", 0.3, False),
        _compared("certificate", THANOS, LARGE, 0.4),
        _compared("certificate", unlike, LARGE, 0.4),
        _compared("pruning", unlike, "512 x 512", 0.3, False),
    )
    assert margin(study, THANOS) == "20%"
    assert margin(study, unlike) == UNCHECKED == "not checked"


def test_rows_of_wider_blocks_are_not_checked(study: dict[str, Any]) -> None:
    text = "\n".join(predictions(study))
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| thanos, ")]
    assert len(rows) == 3 * (3 + 2)
    for row in rows:
        assert (row[4] == UNCHECKED) == row[0].endswith("B = 512")
    assert (
        " *Not checked*: no layer was held out with these four; none was measured at all with "
        f"thanos, 2:4, B = 512.{wider_blocks(study)} *Passes*: "
    ) in text


def test_where_all_rows_are_checked_none_is_called_not_so(study: dict[str, Any]) -> None:
    narrow = [each for each in study["predictions"] if each["run"]["block_size"] == 128]
    assert "not checked" not in "\n".join(predictions({**study, "predictions": narrow})).lower()


def test_the_page_says_which_way_the_model_errs(study: dict[str, Any]) -> None:
    text = page(study)
    answer, _, rest = text.partition("## Predictions")
    said, _, rest = rest.partition("## Where the time goes")
    assert "\n".join(in_answer(study)) in answer
    assert "\n".join(on_the_largest(study)) in said
    assert "\n".join(by_size(study)) in rest.partition("## How good the model is")[2]
    for part in (in_answer, on_the_largest, by_size):
        assert any(part(study))
