"""`compare`: what is a regression, what is noise, and what cannot be judged. On made-up results."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thanos_torch.cli import main
from verification.benchmarks.comparing.compare import (
    ResultsComparison,
    compare,
    cost_regressions,
    lines,
    rows,
)
from verification.benchmarks.results import Key, Records, ResultsFile, read_draws, read_results

LAYERS = [f"layers.{index}.{name}" for index in range(3) for name in ("q_proj", "down_proj")]
METHODS = ("thanos", "sparsegpt", "wanda", "magnitude")
DRAW_MOVES = 0.07  # all methods and layers together, as real draws of 4096 tokens do
LAYER_MOVES = 0.005  # each layer and method by itself
NO_DRAWS: dict[Key, Records] = {}
Content = dict[str, Any]


def made(folder: Path, seeds: list[int], factor: float = 1.0) -> Path:
    """A results file of every method; layer errors of Thanos are `factor` times too large."""
    runs = [
        {"run": {"method": "dense", "pattern": ""}, "model": "m", "perplexity": 10.0, "windows": 4}
    ]
    for seed in seeds:
        draw = np.random.default_rng(seed).normal(0, DRAW_MOVES)
        for number, method in enumerate(METHODS):
            own = np.random.default_rng([seed, number]).normal(0, LAYER_MOVES, len(LAYERS))
            errors = np.exp(-4 + number / 2 + draw + own) * (factor if method == "thanos" else 1)
            runs.append(
                {
                    "run": {"method": method, "pattern": "2:4"},
                    "model": "m",
                    "calibration": {"dataset": "d", "nsamples": 8, "seqlen": 512, "seed": seed},
                    "perplexity": float(20 + errors.mean()),
                    "windows": 4,
                    "layers": [
                        {"name": name, "removed": 50, "error": float(error), "passed": True}
                        for name, error in zip(LAYERS, errors, strict=True)
                    ],
                    "seconds": {"pruning": 10.0 + number},
                    "peak_memory_bytes": 2**30,
                }
            )
    folder.mkdir()
    content = {"commit": "c", "machine": "two cores", "python": "3.11", "runs": runs}
    (folder / "results.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def before(tmp_path: Path) -> ResultsFile:
    return read_results(made(tmp_path / "before", [0]))


@pytest.fixture
def other(tmp_path: Path) -> ResultsFile:
    """The same code on another draw."""
    return read_results(made(tmp_path / "other", [1]))


@pytest.fixture
def three(tmp_path: Path) -> ResultsFile:
    return read_results(made(tmp_path / "three", [0, 1, 2]))


@pytest.fixture
def recorded(tmp_path: Path) -> dict[Key, Records]:
    return read_draws([made(tmp_path / "recorded", list(range(100, 106)))])


def changed(before: ResultsFile, change: Callable[[Content], None]) -> ResultsFile:
    """The same results after a change to their content."""
    content = copy.deepcopy(before.content)
    change(content)
    file = before.file.with_name("changed.json")
    file.write_text(json.dumps(content))
    return read_results(file)


def pruned(edit: Callable[[Content], object], method: str = "") -> Callable[[Content], None]:
    """A change of every pruned run, or of those by one method."""

    def change(content: Content) -> None:
        for run in content["runs"][1:]:
            if run["run"]["method"] == method or not method:
                edit(run)

    return change


def layers(edit: Callable[[Content], object], method: str = "") -> Callable[[Content], None]:
    """A change of every layer."""
    return pruned(lambda run: [edit(layer) for layer in run["layers"]], method)


def scaled(measure: str, factors: dict[int, float]) -> Callable[[Content], None]:
    """Another perplexity or layer error of Thanos by seed."""

    def change(run: Content) -> None:
        for each in [run] if measure == "perplexity" else run["layers"]:
            each[measure] *= factors.get(run["calibration"]["seed"], 1.0)

    return pruned(change, "thanos")


def against(before: ResultsFile, change: Callable[[Content], None]) -> ResultsComparison:
    return compare(before, changed(before, change), NO_DRAWS)


def test_a_file_is_the_same_as_itself(before: ResultsFile) -> None:
    found = compare(before, before, NO_DRAWS)
    assert found.regressions == found.improvements == found.unjudged == found.lost == []
    assert {pair.verdict for pair in found.pairs} == {"same"}
    assert list(lines(found))[-1] == "No regression beyond noise."


def test_two_percent_on_the_same_draw_are_a_regression(tmp_path: Path, before: ResultsFile) -> None:
    worse = read_results(made(tmp_path / "worse", [0], 1.02))
    (found,) = compare(before, worse, NO_DRAWS).regressions
    noise = "same draw; rounding explains 0.5 %"
    assert found == f"thanos 2:4: layer error, first 3 blocks +2.00 % ({noise})"
    back = compare(worse, before, NO_DRAWS)
    assert back.regressions == []
    (better,) = back.improvements
    assert better.startswith("thanos 2:4: layer error, first 3 blocks -1.96 %")


def test_rounding_is_no_regression(tmp_path: Path, before: ResultsFile) -> None:
    rounded = read_results(made(tmp_path / "rounded", [0], 1.002))
    assert compare(before, rounded, NO_DRAWS).regressions == []


@pytest.mark.parametrize(
    ("factors", "moved"),
    [
        ((1.11, 1.20, 1.60), "+28.69 %"),
        ((1.40, 1.00, 1.00), "+11.87 %"),  # of one draw
        ((1.1, 1.1, 1.1), None),
        ((1.06, 0.95, 1.04), None),
    ],
)
def test_the_mean_over_common_draws_is_judged(
    three: ResultsFile, factors: tuple[float, ...], moved: str | None
) -> None:
    found = against(three, scaled("perplexity", dict(enumerate(factors)))).regressions
    assert len(found) == (moved is not None)
    assert all(what.startswith(f"thanos 2:4: perplexity {moved}") for what in found)


def test_one_bad_layer_shows(before: ResultsFile) -> None:
    def spoil(content: Content) -> None:
        content["runs"][1]["layers"][3]["error"] *= 1.06
        content["runs"][1]["layers"][4]["error"] *= 0.95

    (found,) = against(before, spoil).regressions
    assert found.endswith(f"worse by themselves: {LAYERS[3]}")


def test_an_error_that_is_not_a_number_is_worse_than_any(before: ResultsFile) -> None:
    def spoil(content: Content) -> None:
        content["runs"][1]["layers"][0]["error"] = float("nan")

    found = against(before, spoil).regressions
    assert len(found) == 2
    assert all("thanos 2:4: layer error" in what for what in found)


@pytest.mark.parametrize(
    ("factor", "block", "seen"), [(1.02, 3, False), (1.02, 2, True), (1.08, 3, True)]
)
def test_rounding_grows_with_depth(
    before: ResultsFile, factor: float, block: int, seen: bool
) -> None:
    def deepen(factor: float) -> Callable[[Content], None]:
        def change(run: Content) -> None:
            for number in range(30):
                layer = dict(run["layers"][0], name=f"layers.{block}.{number}")
                run["layers"].append(layer | {"error": layer["error"] * factor})

        return pruned(change)

    first, second = (changed(before, deepen(each)) for each in (1.0, factor))
    assert len(compare(first, second, NO_DRAWS).regressions) == (len(METHODS) if seen else 0)


def with_dense_errors(content: Content) -> None:
    layers(lambda layer: layer.update(dense_error=layer["error"]))(content)


def lose_run(content: Content) -> None:
    del content["runs"][3]


def lose_layer(content: Content) -> None:
    del content["runs"][1]["layers"][5]


NAMES = ", ".join(LAYERS[:3]) + " and 3 more"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lose_run, "wanda 2:4: the run is lost"),
        (lose_layer, f"thanos 2:4: layers lost: {LAYERS[5]}"),
        (
            layers(lambda layer: layer.update(passed=False), "sparsegpt"),
            f"sparsegpt 2:4: certificates lost: {NAMES}",
        ),
        (
            lambda content: content["runs"][1]["layers"][5].update(removed=49),
            f"thanos 2:4: removed weights changed: {LAYERS[5]} 50 → 49",
        ),
        (
            pruned(lambda run: run.update(perplexity=None), "thanos"),
            "thanos 2:4: perplexity is lost",
        ),
        (pruned(lambda run: run.pop("perplexity"), "thanos"), "thanos 2:4: perplexity is lost"),
        (
            lambda content: content["runs"][1]["layers"][4].update(error=None),
            f"thanos 2:4: layer error is lost: {LAYERS[4]}",
        ),
        (
            lambda content: content["runs"][1]["layers"][0].pop("dense_error"),
            f"thanos 2:4: error with dense inputs is lost: {LAYERS[0]}",
        ),
        (
            layers(lambda layer: layer.pop("dense_error"), "thanos"),
            "thanos 2:4: error with dense inputs is lost",
        ),
    ],
)
def test_what_no_noise_excuses(before: ResultsFile, spoil: Any, words: str) -> None:
    whole = changed(before, with_dense_errors)
    assert against(whole, spoil).regressions == [words]


def test_new_measures_and_runs_are_no_regression(before: ResultsFile) -> None:
    whole = changed(before, with_dense_errors)
    assert compare(before, whole, NO_DRAWS).regressions == []
    found = compare(changed(before, lose_run), before, NO_DRAWS)
    assert found.regressions == []
    assert "new      wanda 2:4" in lines(found)


def test_what_one_of_several_seeds_loses_is_lost(three: ResultsFile) -> None:
    def spoil(run: Content) -> None:
        if run["calibration"]["seed"] == 1:
            run["layers"][4]["removed"] = 49

    assert against(three, pruned(spoil, "thanos")).regressions == [
        f"thanos 2:4: removed weights changed: {LAYERS[4]} 50 → 49, seed 1"
    ]


def test_a_lost_seed_is_a_lost_run_and_another_seed_is_not(
    tmp_path: Path, three: ResultsFile, recorded: dict[Key, Records]
) -> None:
    mixed = read_results(made(tmp_path / "mixed", [0, 3]))
    assert compare(three, mixed, recorded).regressions == [
        f"{method} 2:4, seed {seed}: the run is lost" for method in METHODS for seed in (1, 2)
    ]
    assert compare(mixed, three, recorded).lost == [f"{method} 2:4, seed 3" for method in METHODS]
    others = read_results(made(tmp_path / "others", [3, 4]))
    assert compare(three, others, recorded).lost == []


def test_certificates_are_compared_between_other_draws_too(
    before: ResultsFile, other: ResultsFile, recorded: dict[Key, Records]
) -> None:
    failed = changed(other, layers(lambda layer: layer.update(passed=False), "wanda"))
    assert compare(before, failed, recorded).regressions == [
        f"wanda 2:4: certificates lost: {NAMES}"
    ]


def test_other_draws_are_no_regression(
    tmp_path: Path, before: ResultsFile, recorded: dict[Key, Records]
) -> None:
    for seed in range(1, 21):
        found = compare(before, read_results(made(tmp_path / str(seed), [seed])), recorded)
        assert found.regressions == found.improvements == []
        assert {pair.verdict for pair in found.pairs} == {"same"}


def test_a_change_beyond_the_spread_of_draws_is_a_regression(
    tmp_path: Path, before: ResultsFile, recorded: dict[Key, Records]
) -> None:
    worse = read_results(made(tmp_path / "worse", [1], 2.0))
    found = compare(before, worse, recorded).regressions
    assert len(found) == 2  # in the first blocks, and in all
    assert all("thanos 2:4" in what and "other draws; their spread" in what for what in found)


def test_several_draws_of_their_own_need_no_recorded_ones(tmp_path: Path) -> None:
    first, same = (
        read_results(made(tmp_path / f"from {start}", list(range(start, start + 5))))
        for start in (0, 5)
    )
    worse = read_results(made(tmp_path / "worse", list(range(5, 10)), 1.5))
    assert compare(first, same, NO_DRAWS).regressions == []
    assert compare(first, worse, NO_DRAWS).regressions != []


@pytest.mark.parametrize(
    ("after", "verdict"),
    [(100.0001, "no difference"), (109.9, "no difference"), (111.0, "higher"), (90.0, "lower")],
)
def test_rounding_is_no_regression_where_draws_do_not_vary(
    tmp_path: Path, after: float, verdict: str
) -> None:
    """Perplexity of magnitude pruning is the same on all draws."""

    def of_magnitude(perplexity: float, seeds: list[int]) -> ResultsFile:
        edit = pruned(lambda run: run.update(perplexity=perplexity), "magnitude")
        return changed(read_results(made(tmp_path / str(perplexity), seeds)), edit)

    first, second = of_magnitude(100.0, [0, 1]), of_magnitude(after, [2, 3])
    *_, magnitude = compare(first, second, NO_DRAWS).pairs
    *_, change = magnitude.changes
    assert (change.measure, change.verdict) == ("perplexity", verdict)
    assert change.basis == "other draws; rounding explains 10 %"


def refused(before: ResultsFile, after: ResultsFile, recorded: dict[Key, Records]) -> bool:
    """Whether nothing can be judged but the dense model, which no calibration text touches."""
    with pytest.raises(ValueError, match=r"nothing can be judged: .* [(]too few"):
        compare(before, after, recorded)
    return True


def test_without_enough_draws_nothing_passes(
    tmp_path: Path, before: ResultsFile, other: ResultsFile
) -> None:
    assert refused(before, other, NO_DRAWS)
    assert refused(before, other, read_draws([made(tmp_path / "few", [100, 101])]))


def test_only_recorded_draws_of_the_same_kind_judge(
    tmp_path: Path, before: ResultsFile, other: ResultsFile
) -> None:
    like, unlike = (made(tmp_path / name, list(range(100, 106))) for name in ("like", "unlike"))
    longer = pruned(lambda run: run["calibration"].update(seqlen=1024))
    file = changed(read_results(unlike), longer).file
    assert refused(before, other, read_draws([file]))
    both, one = (compare(before, other, read_draws(files)) for files in ([file, like], [like]))
    assert [pair.changes for pair in both.pairs] == [pair.changes for pair in one.pairs]


def test_what_could_not_be_judged_is_named(
    before: ResultsFile, other: ResultsFile, recorded: dict[Key, Records]
) -> None:
    recorded.pop(next(key for key in recorded if key.label == "wanda 2:4"))
    found = compare(before, other, recorded)
    measures = "layer error, first 3 blocks, layer error, perplexity"
    assert found.unjudged == [f"wanda 2:4: {measures} (too few calibration draws)"]
    *_, last = lines(found)
    assert last == "No regression beyond noise, but 1 of 5 runs are NOT JUDGED in full."


def test_another_text_of_the_same_name_is_another_draw(
    before: ResultsFile, recorded: dict[Key, Records]
) -> None:
    def drawn_from(text: str) -> Callable[[Content], None]:
        return pruned(lambda run: run.update(calibration_text={"windows_sha256": text}))

    first = changed(before, drawn_from("a"))
    worse = changed(before, layers(lambda layer: layer.update(error=1.06 * layer["error"])))
    assert compare(first, changed(worse, drawn_from("b")), recorded).regressions == []


def test_perplexities_of_other_windows_are_not_compared(before: ResultsFile) -> None:
    def change(content: Content) -> None:
        content["runs"][1] |= {"windows": 8, "perplexity": 99.0}
        content["runs"][2]["perplexity"] *= 1.11

    found = against(before, change)
    (worse,) = found.regressions
    assert worse.startswith("sparsegpt 2:4: perplexity +11.00 %")
    reason = "nothing in common: 4 windows → 8 windows"
    assert f"NOT JUDGED  thanos 2:4: perplexity ({reason})" in lines(found)


def test_results_with_another_bos_are_not_compared(
    tmp_path: Path, before: ResultsFile, other: ResultsFile, recorded: dict[Key, Records]
) -> None:
    def begun(bos: str) -> Callable[[Content], None]:
        def change(content: Content) -> None:
            for run in content["runs"]:
                run["calibration_text"] = run["evaluation_text"] = {"bos": bos}

        return change

    own = against(before, begun("tokenizer"))  # what files say that do not record it
    assert not own.unjudged
    assert not own.regressions
    worse = changed(before, layers(lambda layer: layer.update(error=9 * layer["error"])))
    with pytest.raises(ValueError, match="calibrated with another BOS: tokenizer → each") as caught:
        compare(before, changed(worse, begun("each")), recorded)
    words = "nothing in common: 4 windows → 4 windows with bos each"
    assert words in str(caught.value)
    first, second = (changed(each, begun("each")) for each in (before, worse))
    assert compare(first, second, recorded).regressions
    # Recorded draws with another BOS do not judge.
    assert refused(changed(before, begun("each")), changed(other, begun("each")), recorded)


def test_costs_are_judged_on_one_machine_over_all_runs(before: ResultsFile) -> None:
    slower = changed(
        before, pruned(lambda run: run["seconds"].update(pruning=1.3 * run["seconds"]["pruning"]))
    )
    (found,) = compare(before, slower, NO_DRAWS, times=0.1).regressions
    assert found.startswith("pruning time +30.0 % over 4 runs")
    assert compare(before, slower, NO_DRAWS).regressions == []
    assert cost_regressions(before, slower, 0.5) == cost_regressions(slower, before, 0.1) == []
    elsewhere = changed(before, lambda content: content.update(machine="four cores"))
    beside = changed(before, pruned(lambda run: run.update(jobs=2)))
    for unlike in (elsewhere, beside):
        with pytest.raises(ValueError, match="times must be measured alike, got machine two cores"):
            cost_regressions(before, unlike, 0.1)
    with pytest.raises(ValueError, match="times must be a share of 0 or more, got -1"):
        cost_regressions(before, before, -1)


def test_rows_lines_and_json(tmp_path: Path, before: ResultsFile) -> None:
    worse = read_results(made(tmp_path / "worse", [0], 1.02))
    found = compare(before, changed(worse, lambda each: each.update(python="3.99")), NO_DRAWS)
    row = next(row for row in rows(found) if row[0] == "thanos 2:4")
    assert row[1].endswith("+2.00 %")
    assert row[-1] == "REGRESSION"
    assert "version  python: 3.11 → 3.99" in lines(found)
    written = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert written["regressions"] == found.regressions
    assert written["before"]["machine"] == "two cores"
    assert written["runs"][1]["changes"][0]["verdict"] == "higher"


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"runs": [{}]}', '{"runs": [{"run": 1}]}'])
def test_other_json_is_no_results_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=r"results\.json is no results file"):
        read_results(tmp_path)


@pytest.mark.parametrize("missing", ["name", "removed", "passed"])
def test_a_layer_without_a_value_is_refused(before: ResultsFile, missing: str) -> None:
    with pytest.raises(ValueError, match=rf"is no results file: runs\[1\].*has no '{missing}'"):
        changed(before, layers(lambda layer: layer.pop(missing)))


def test_missing_files_and_runs_are_refused(tmp_path: Path, before: ResultsFile) -> None:
    with pytest.raises(ValueError, match="results must be a file, or a folder"):
        read_results(tmp_path / "none")
    with pytest.raises(ValueError, match="have no run in common"):
        compare(before, changed(before, lambda content: content.update(runs=[])), NO_DRAWS)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "not verified": ({"verified": False}, "verified is False, but every layer passed"),
    "verified as text": ({"verified": "false"}, r"runs\[1\].verified must be true or false, got"),
    "perplexity 0": ({"perplexity": 0}, r"runs\[1\].perplexity must be at least 1, got 0"),
    "perplexity -1": ({"perplexity": -1}, "perplexity must be at least 1, got -1"),
    "perplexity 0.5": ({"perplexity": 0.5}, "perplexity must be at least 1, got 0.5"),
    "perplexity -inf": ({"perplexity": -float("inf")}, "perplexity must be finite, got -inf"),
    "perplexity NaN": ({"perplexity": float("nan")}, "perplexity must be finite, got nan"),
    "perplexity true": ({"perplexity": True}, "perplexity must be a number, got True"),
    "no layers": ({"layers": []}, "it has no layers"),
    "layers of text": ({"layers": ["a"]}, r"layers\[0\] must be an object, got 'a'"),
    "seconds": ({"seconds": {"pruning": "9"}}, "seconds.pruning must be a number"),
    "negative time": ({"seconds": {"pruning": -9}}, "seconds.pruning must be at least 0"),
    "calibration": ({"calibration": {"dataset": "d"}}, "has no 'nsamples'"),
    "options": ({"run": ["thanos"]}, "run must be an object"),
    "other model": ({"model": 1}, r"runs\[1\].model must be text, got 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_runs_that_cannot_be_are_refused_by_name(before: ResultsFile, case: str) -> None:
    edit, message = WRONG[case]
    with pytest.raises(ValueError, match=f"changed.json is no results file: .*{message}"):
        changed(before, lambda content: content["runs"][1].update(edit))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"passed": "false"}, "passed must be true or false, got 'false'"),
        ({"passed": 1}, "passed must be true or false, got 1"),
        ({"removed": -1}, "removed must be at least 0, got -1"),
        ({"error": -0.1}, "error must be at least 0, got -0.1"),
        ({"name": LAYERS[1]}, "no layers, or one of them twice"),
    ],
)
def test_layers_that_cannot_be_are_refused_by_name(
    before: ResultsFile, edit: Content, message: str
) -> None:
    with pytest.raises(ValueError, match=f"changed.json is no results file: .*{message}"):
        changed(before, lambda content: content["runs"][1]["layers"][0].update(edit))


def test_a_run_that_stands_there_twice_is_refused(before: ResultsFile) -> None:
    with pytest.raises(ValueError, match=r"thanos 2:4 of m: it stands there twice"):
        changed(before, lambda content: content["runs"].append(content["runs"][1]))


def test_a_run_that_never_passed_is_a_regression(before: ResultsFile) -> None:
    failed = changed(before, layers(lambda layer: layer.update(passed=False), "thanos"))
    (found,) = compare(failed, failed, NO_DRAWS).regressions
    assert found.startswith("thanos 2:4: not certified: layers.0")


@pytest.mark.parametrize(
    "spoiled", ["[" * 100_000, "{}", '[{"runs": []}]', '{"runs": [], "runs": 1}']
)
def test_the_command_refuses_in_one_line(
    before: ResultsFile, spoiled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = before.file.with_name("changed.json")
    file.write_text(spoiled)
    monkeypatch.setattr("sys.argv", ["thanos", "bench", "compare", str(before.file), str(file)])
    with pytest.raises(SystemExit, match=r"^thanos: .*changed.json .*is no results file") as ended:
        main()
    assert str(ended.value.code).isprintable()


def test_the_command_fails_for_a_run_that_is_not_verified(
    before: ResultsFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = copy.deepcopy(before.content)
    content["runs"][1]["verified"] = False
    file = before.file.with_name("changed.json")
    file.write_text(json.dumps(content))
    monkeypatch.setattr("sys.argv", ["thanos", "bench", "compare", str(before.file), str(file)])
    with pytest.raises(SystemExit, match=r"runs\[1\], thanos 2:4 of m: verified is False"):
        main()
