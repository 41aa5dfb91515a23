"""`compare`: what is a regression, what is noise, and what cannot be told. On made-up results."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from verification.benchmarks.comparing.compare import (
    ResultsComparison,
    compare,
    cost_regressions,
    lines,
    rows,
    verdict,
    write_comparison,
)
from verification.benchmarks.results import ResultsFile, no_results, read_draws, read_results

LAYERS = [f"layers.{index}.{name}" for index in range(3) for name in ("q_proj", "down_proj")]
METHODS = ("thanos", "sparsegpt", "wanda", "magnitude")
DRAW_MOVES = 0.07  # all methods and layers together, as real draws of 4096 tokens do
LAYER_MOVES = 0.005  # each layer and method by itself
Content = dict[str, Any]


def made(folder: Path, seeds: list[int], factor: float = 1.0, only: str = "thanos") -> Path:
    """A results file of every method; `only`'s layer errors are `factor` times too large."""
    runs = [
        {"run": {"method": "dense", "pattern": ""}, "model": "m", "perplexity": 10.0, "windows": 4}
    ]
    for seed in seeds:
        draw = np.random.default_rng(seed).normal(0, DRAW_MOVES)
        for number, method in enumerate(METHODS):
            own = np.random.default_rng([seed, number]).normal(0, LAYER_MOVES, len(LAYERS))
            errors = np.exp(-4 + number / 2 + draw + own) * (factor if method == only else 1)
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
                    "sparsity": 0.5,
                }
            )
    folder.mkdir()
    content = {"commit": "c", "machine": "two cores", "settings": {"threads": 1}, "runs": runs}
    (folder / "results.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def before(tmp_path: Path) -> ResultsFile:
    return read_results(made(tmp_path / "before", [0]))


@pytest.fixture
def recorded(tmp_path: Path) -> ResultsFile:
    return read_results(made(tmp_path / "recorded", list(range(100, 106))))


def changed(before: ResultsFile, change: Callable[[Content], None]) -> ResultsFile:
    """The same results after a change to their content."""
    content = copy.deepcopy(before.content)
    change(content)
    file = before.file.with_name("changed.json")
    file.write_text(json.dumps(content))
    return read_results(file)


def pruned(edit: Callable[[Content], object]) -> Callable[[Content], None]:
    """A change of every pruned run."""

    def change(content: Content) -> None:
        for run in content["runs"][1:]:
            edit(run)

    return change


def layers(edit: Callable[[Content], object]) -> Callable[[Content], None]:
    """A change of every layer of every pruned run."""
    return pruned(lambda run: [edit(layer) for layer in run["layers"]])


def with_seed(seed: int, edit: Callable[[Content], object]) -> Callable[[Content], None]:
    """A change of the pruned runs on one draw."""
    return pruned(lambda run: edit(run) if run["calibration"]["seed"] == seed else None)


def longer(content: Content) -> None:
    """Calibrate on longer windows."""
    pruned(lambda run: run["calibration"].update(seqlen=1024))(content)


def against(before: ResultsFile, change: Callable[[Content], None]) -> ResultsComparison:
    return compare(before, changed(before, change), no_results())


def test_a_file_is_the_same_as_itself(before: ResultsFile) -> None:
    found = compare(before, before, no_results())
    assert found.regressions == found.improvements == found.unjudged == found.lost == []
    assert {verdict(pair) for pair in found.pairs} == {"same"}
    assert list(lines(found))[-1] == "No regression beyond noise."


def test_two_percent_on_the_same_draw_are_a_regression(tmp_path: Path, before: ResultsFile) -> None:
    worse = read_results(made(tmp_path / "worse", [0], 1.02))
    (found,) = compare(before, worse, no_results()).regressions
    assert found.startswith("thanos 2:4: layer error, first 3 blocks +2.00 %")
    back = compare(worse, before, no_results())
    assert back.regressions == []
    (better,) = back.improvements
    assert better.startswith("thanos 2:4: layer error, first 3 blocks -1.96 %")


def test_rounding_is_none(tmp_path: Path, before: ResultsFile) -> None:
    rounded = read_results(made(tmp_path / "rounded", [0], 1.002))
    assert compare(before, rounded, no_results()).regressions == []


def test_other_seeds_are_none(tmp_path: Path, before: ResultsFile, recorded: ResultsFile) -> None:
    for seed in range(1, 21):
        other = read_results(made(tmp_path / str(seed), [seed]))
        found = compare(before, other, recorded)
        assert found.regressions == found.improvements == []
        assert {verdict(pair) for pair in found.pairs} == {"same"}


def scaled(measure: str, factors: dict[int, float]) -> Callable[[Content], None]:
    """Another perplexity or layer error of Thanos by seed."""

    def change(content: Content) -> None:
        for run in content["runs"]:
            factor = factors.get(run.get("calibration", {}).get("seed"), 1.0)
            if run["run"]["method"] == "thanos":
                for each in [run] if measure == "perplexity" else run["layers"]:
                    each[measure] *= factor

    return change


@pytest.mark.parametrize(
    ("factors", "moved"),
    [
        ((1.11, 1.20, 1.60), "+28.69 %"),  # each alone is a regression; no interval is beyond 10 %
        ((1.40, 1.00, 1.00), "+11.87 %"),  # of one draw
        ((1.11, 1.11, 1.11), "+11.00 %"),
    ],
)
def test_draws_that_got_worse_unevenly_are_a_regression(
    tmp_path: Path, factors: tuple[float, ...], moved: str
) -> None:
    three = read_results(made(tmp_path / "three", [0, 1, 2]))
    worse = changed(three, scaled("perplexity", dict(enumerate(factors))))
    (found,) = compare(three, worse, no_results()).regressions
    assert found.startswith(f"thanos 2:4: perplexity {moved} (same draw: beyond rounding, 10 %)")
    back = compare(worse, three, no_results())
    assert back.regressions == []
    assert len(back.improvements) == 1


def test_one_of_three_draws_shows_in_the_first_blocks(tmp_path: Path) -> None:
    three = read_results(made(tmp_path / "three", [0, 1, 2]))
    (found,) = compare(three, changed(three, scaled("error", {1: 1.02})), no_results()).regressions
    assert found.startswith("thanos 2:4: layer error, first 3 blocks +0.66 %")


@pytest.mark.parametrize("factors", [(1.1, 1.1, 1.1), (1.06, 0.95, 1.04), (1.0, 1.0, 1.08)])
def test_rounding_of_three_draws_is_none(tmp_path: Path, factors: tuple[float, ...]) -> None:
    three = read_results(made(tmp_path / "three", [0, 1, 2]))
    rounded = changed(three, scaled("perplexity", dict(enumerate(factors))))
    found = compare(three, rounded, no_results())
    assert found.regressions == found.improvements == []


def of_magnitude(perplexity: float) -> Callable[[Content], None]:
    """Perplexities of magnitude, which no draw moves."""

    def change(content: Content) -> None:
        for run in content["runs"]:
            if run["run"]["method"] == "magnitude":
                run["perplexity"] = perplexity

    return change


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        (100.0, "no difference"),
        (100.0001, "no difference"),
        (109.9, "no difference"),
        (91.0, "no difference"),
        (111.0, "higher"),
        (90.0, "lower"),
    ],
)
def test_rounding_is_none_where_draws_do_not_vary(
    tmp_path: Path, after: float, verdict: str
) -> None:
    first = changed(read_results(made(tmp_path / "first", [0, 1])), of_magnitude(100.0))
    second = changed(read_results(made(tmp_path / "second", [2, 3])), of_magnitude(after))
    found = compare(first, second, no_results())
    magnitude = next(pair for pair in found.pairs if pair.key.label == "magnitude 2:4")
    (change,) = [change for change in magnitude.changes if change.measure == "perplexity"]
    assert change.verdict == verdict
    assert change.basis == "other draw: beyond rounding, 10 %, more than their own draws vary"


def alike(error: float) -> Callable[[Content], None]:
    """Layer errors that no draw moves."""
    return layers(lambda layer: layer.update(error=error))


def test_rounding_of_layers_is_none_where_draws_do_not_vary(tmp_path: Path) -> None:
    first = changed(read_results(made(tmp_path / "first", [0, 1])), alike(0.1))
    second = read_results(made(tmp_path / "second", [2, 3]))
    for error in (0.1000001, 0.1004):
        assert compare(first, changed(second, alike(error)), no_results()).regressions == []
    (found, *_) = compare(first, changed(second, alike(0.1006)), no_results()).regressions
    basis = "other draw: beyond rounding, 0.5 %, more than their own draws vary, 6 layers"
    assert found == f"thanos 2:4: layer error +0.60 % ({basis})"


def test_other_draws_show_in_the_first_blocks_what_depth_hides(tmp_path: Path) -> None:
    """Rounding may move all blocks by 5 %, but not the first ones."""

    def deepen(content: Content) -> None:
        for run in content["runs"][1:]:
            run["layers"] += [
                dict(layer, name=layer["name"].replace("layers.", "layers.1"))
                for layer in run["layers"]
            ]

    first = changed(read_results(made(tmp_path / "first", list(range(5)))), deepen)
    same = changed(read_results(made(tmp_path / "same", list(range(5, 10)))), deepen)
    worse = changed(read_results(made(tmp_path / "worse", list(range(5, 10)), 1.03)), deepen)
    assert compare(first, same, no_results()).regressions == []
    found = compare(first, worse, no_results()).regressions
    assert found
    assert all("layer error / " in what and ", first 3 blocks" in what for what in found)


def test_what_the_draw_hides_shows_beside_a_control(
    tmp_path: Path, before: ResultsFile, recorded: ResultsFile
) -> None:
    """Draws move all errors by 7 %, but the ratio of two methods by far less."""
    worse = read_results(made(tmp_path / "worse", [1], 1.10))
    found = compare(before, worse, recorded)
    assert any("thanos 2:4: layer error / sparsegpt's" in what for what in found.regressions)
    assert not any("2:4: layer error +" in what for what in found.regressions)


def test_several_draws_of_their_own_need_no_recorded_ones(tmp_path: Path) -> None:
    first = read_results(made(tmp_path / "first", list(range(5))))
    same = read_results(made(tmp_path / "same", list(range(5, 10))))
    worse = read_results(made(tmp_path / "worse", list(range(5, 10)), 1.05))
    assert compare(first, same, no_results()).regressions == []
    assert "layer error / sparsegpt's" in compare(first, worse, no_results()).regressions[0]


def refused(before: ResultsFile, after: ResultsFile, recorded: ResultsFile) -> bool:
    """Whether nothing can be judged but the dense model, which no calibration text touches."""
    reason = "nothing can be judged: too few draws on both sides, and too few recorded ones"
    with pytest.raises(ValueError, match=f"^{reason}$"):
        compare(before, after, recorded)
    return True


def test_without_any_spread_nothing_passes(tmp_path: Path, before: ResultsFile) -> None:
    other = read_results(made(tmp_path / "other", [1]))
    assert refused(before, other, no_results())
    for side in (before, other):
        side.runs.pop(next(key for key in side.runs if key.label == "dense"))
    assert refused(before, other, no_results())


def test_two_recorded_draws_are_too_few(tmp_path: Path, before: ResultsFile) -> None:
    other = read_results(made(tmp_path / "other", [1]))
    assert refused(before, other, read_results(made(tmp_path / "few", [100, 101])))


def test_recorded_draws_of_another_kind_do_not_judge(tmp_path: Path, before: ResultsFile) -> None:
    recorded = changed(read_results(made(tmp_path / "r", list(range(100, 106)))), longer)
    other = read_results(made(tmp_path / "other", [1]))
    assert refused(before, other, recorded)


def test_of_draws_of_several_kinds_those_like_the_compared_ones_judge(
    tmp_path: Path, before: ResultsFile
) -> None:
    """Two files: one of the compared kind, and one of longer windows that do not vary at all."""

    def longer_and_alike(content: Content) -> None:
        longer(content)
        pruned(lambda run: run.update(layers=content["runs"][1]["layers"]))(content)

    like, unlike = (made(tmp_path / name, list(range(100, 106))) for name in ("like", "unlike"))
    file = changed(read_results(unlike), longer_and_alike).file
    other = read_results(made(tmp_path / "other", [1]))
    both = compare(before, other, read_draws([file, like]))
    assert [pair.changes for pair in both.pairs] == [
        pair.changes for pair in compare(before, other, read_draws([like])).pairs
    ]
    assert both.regressions == []
    assert both.unjudged == []
    assert refused(before, other, read_draws([file]))


def test_what_could_not_be_judged_is_said_last(
    tmp_path: Path, before: ResultsFile, recorded: ResultsFile
) -> None:
    other = read_results(made(tmp_path / "other", [1]))
    wanda = next(key for key in recorded.runs if key.label == "wanda 2:4")
    recorded.runs.pop(wanda)
    found = compare(before, other, recorded)
    assert found.unjudged == ["wanda 2:4"]
    *_, last = lines(found)
    of = len(METHODS) + 1
    assert last == f"No regression beyond noise, but 1 of {of} runs are NOT JUDGED."


def test_a_dense_model_alone_is_judged(before: ResultsFile) -> None:
    dense = changed(before, lambda content: content.update(runs=content["runs"][:1]))
    (pair,) = compare(dense, dense, no_results()).pairs
    assert pair.judged


def test_one_bad_layer_shows(before: ResultsFile) -> None:
    def spoil(content: Content) -> None:
        content["runs"][1]["layers"][3]["error"] *= 1.06
        content["runs"][1]["layers"][4]["error"] *= 0.95

    (found,) = against(before, spoil).regressions
    assert found.endswith(f"worse by themselves: {LAYERS[3]}")


def spoil_certificate(content: Content) -> None:
    content["runs"][2]["layers"][0]["passed"] = False


def lose_run(content: Content) -> None:
    del content["runs"][3]


def lose_layer(content: Content) -> None:
    del content["runs"][1]["layers"][5]


def prune_less(content: Content) -> None:
    content["runs"][1]["layers"][5]["removed"] = 49


def spoil_perplexity(content: Content) -> None:
    content["runs"][1]["perplexity"] *= 1.11


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_certificate, f"sparsegpt 2:4: {LAYERS[0]} was certified and is not any more"),
        (lose_run, "wanda 2:4: the run is lost"),
        (lose_layer, f"thanos 2:4: {LAYERS[5]} is lost"),
        (prune_less, f"thanos 2:4: {LAYERS[5]} lost 50 weights and loses 49 now"),
        (spoil_perplexity, "thanos 2:4: perplexity +11.00 %"),
    ],
)
def test_what_no_noise_excuses(before: ResultsFile, spoil: Any, words: str) -> None:
    (found,) = against(before, spoil).regressions
    assert found.startswith(words)


def null_perplexity(content: Content) -> None:
    content["runs"][1]["perplexity"] = None


def lose_perplexity(content: Content) -> None:
    del content["runs"][1]["perplexity"]


def lose_evaluation(content: Content) -> None:
    for name in ("perplexity", "windows"):
        del content["runs"][1][name]


def null_error(content: Content) -> None:
    content["runs"][1]["layers"][4]["error"] = None


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (null_perplexity, "perplexity is lost"),
        (lose_perplexity, "perplexity is lost"),
        (lose_evaluation, "perplexity is lost"),
        (null_error, f"layer error of {LAYERS[4]} is lost"),
    ],
)
def test_a_lost_measure_is_a_regression(before: ResultsFile, spoil: Any, words: str) -> None:
    assert against(before, spoil).regressions == [f"thanos 2:4: {words}"]
    # What never was there is not lost, and what is new is none.
    assert compare(changed(before, spoil), before, no_results()).regressions == []


with_dense_errors = layers(lambda layer: layer.update(dense_error=layer["error"]))


def test_lost_errors_with_dense_inputs_are_a_regression(before: ResultsFile) -> None:
    def lose(content: Content, count: int) -> None:
        for layer in content["runs"][1]["layers"][:count]:
            del layer["dense_error"]

    dense = changed(before, with_dense_errors)
    (found,) = against(dense, lambda content: lose(content, 1)).regressions
    assert found == f"thanos 2:4: error with dense inputs of {LAYERS[0]} is lost"
    (found,) = against(dense, lambda content: lose(content, 6)).regressions
    names = ", ".join(LAYERS[:3])
    assert found == f"thanos 2:4: error with dense inputs of {names} and 3 more is lost"


def test_a_layer_is_lost_once_with_all_its_measures(before: ResultsFile) -> None:
    (found,) = against(changed(before, with_dense_errors), lose_layer).regressions
    assert found == f"thanos 2:4: {LAYERS[5]} is lost"


def test_recorded_draws_do_not_lose_what_they_do_not_measure(before: ResultsFile) -> None:
    def as_draws(windows: int) -> Callable[[Content], None]:
        def change(content: Content) -> None:
            content["study"] = "draws"
            content["settings"]["windows"] = windows
            for run in content["runs"]:
                run.pop("perplexity")
                for layer in run.get("layers", ()):
                    layer.pop("dense_error")

        return change

    dense = changed(before, with_dense_errors)
    found = against(dense, as_draws(0))
    assert found.regressions == []
    told = set(lines(found))
    assert "setting  error with dense inputs: measured → not measured" in told
    assert "setting  perplexity: measured → not measured" in told
    found = against(dense, as_draws(4))
    assert "thanos 2:4: perplexity is lost" in found.regressions
    assert not any("dense inputs" in what for what in found.regressions)


def test_what_one_of_several_seeds_loses_is_lost(tmp_path: Path) -> None:
    def spoil(content: Content) -> None:
        for run in content["runs"]:
            if run["run"]["method"] == "thanos" and run["calibration"]["seed"] > 0:
                run["perplexity"] = None
                if run["calibration"]["seed"] == 1:
                    del run["layers"][5]
                    run["layers"][4]["removed"] = 49

    three = read_results(made(tmp_path / "three", [0, 1, 2]))
    assert against(three, spoil).regressions == [
        f"thanos 2:4: {LAYERS[5]} is lost, with seed 1",
        "thanos 2:4: perplexity is lost, with seed 1, 2",
        f"thanos 2:4: {LAYERS[4]} lost 50 weights and loses 49 now, with seed 1",
    ]


@pytest.mark.parametrize(
    ("lacking", "lost"),
    [
        ([], False),
        ([2], True),  # all had it, and one has not
        ([2, 3], True),
        ([0, 2], False),  # not all had it
        ([0, 2, 3], True),  # one had it, and none has
    ],
)
def test_a_measure_can_be_lost_between_other_draws(
    tmp_path: Path, recorded: ResultsFile, lacking: list[int], lost: bool
) -> None:
    def spoil(content: Content) -> None:
        for run in content["runs"][1:]:
            if run["calibration"]["seed"] in lacking:
                run["perplexity"] = None

    first = changed(read_results(made(tmp_path / "first", [0, 1])), spoil)
    second = changed(read_results(made(tmp_path / "second", [2, 3])), spoil)
    found = compare(first, second, recorded).regressions
    assert found == ([f"{method} 2:4: perplexity is lost" for method in METHODS] if lost else [])


def test_many_lost_certificates_are_one_regression(before: ResultsFile) -> None:
    failed = layers(lambda layer: layer.update(passed=False))
    found, *others = against(before, failed).regressions
    names = ", ".join(LAYERS[:3])
    assert found == f"thanos 2:4: {names} and 3 more were certified and are not any more"
    assert len(others) == len(METHODS) - 1


def test_an_error_that_is_no_number_is_worse_than_any(before: ResultsFile) -> None:
    def spoil(content: Content) -> None:
        content["runs"][1]["layers"][0]["error"] = float("nan")

    assert all("thanos 2:4: layer error" in what for what in against(before, spoil).regressions)
    assert len(against(before, spoil).regressions) == 2


def test_rounding_grows_with_depth(before: ResultsFile) -> None:
    def deepen(factor: float, block: int) -> Callable[[Content], None]:
        def change(content: Content) -> None:
            for run in content["runs"][1:]:
                deep = [dict(run["layers"][0], name=f"layers.{block}.{n}") for n in range(30)]
                for layer in deep:
                    layer["error"] *= factor
                run["layers"] += deep

        return change

    def compared(factor: float, block: int) -> list[str]:
        first, second = (changed(before, deepen(each, block)) for each in (1.0, factor))
        return compare(first, second, no_results()).regressions

    assert compared(1.02, 3) == []
    assert len(compared(1.02, 2)) == len(METHODS)
    assert len(compared(1.08, 3)) == len(METHODS)


def test_a_lost_seed_is_a_lost_run_and_another_seed_is_none(tmp_path: Path) -> None:
    three = read_results(made(tmp_path / "three", [0, 1, 2]))
    two = read_results(made(tmp_path / "two", [0, 1]))
    lost = [f"{method} 2:4, seed 2: the run is lost" for method in METHODS]
    assert compare(three, two, no_results()).regressions == lost
    assert compare(two, three, no_results()).regressions == []


def test_seeds_are_lost_too_where_others_are_new(
    tmp_path: Path, before: ResultsFile, recorded: ResultsFile
) -> None:
    three = read_results(made(tmp_path / "three", [0, 1, 2]))
    mixed = read_results(made(tmp_path / "mixed", [0, 3]))
    found = compare(three, mixed, recorded)
    assert found.regressions == [
        f"{method} 2:4, seed {seed}: the run is lost" for method in METHODS for seed in (1, 2)
    ]
    other = read_results(made(tmp_path / "other", [3, 4]))
    assert compare(three, other, recorded).lost == []


def test_new_runs_and_settings_are_reported(before: ResultsFile) -> None:
    def add(content: Content) -> None:
        content["settings"]["threads"] = 2
        content["runs"].append({"run": {"method": "thanos", "pattern": "1:4"}, **DRAWN})

    found = against(before, add)
    assert found.new == ["thanos 1:4"]
    assert found.settings == {"threads": (1, 2)}
    assert found.regressions == []
    assert {"new      thanos 1:4", "setting  threads: 1 → 2"} <= set(lines(found))


DRAWN = {
    "model": "m",
    "layers": [],
    "calibration": {"dataset": "d", "nsamples": 8, "seqlen": 512, "seed": 0},
}


def test_costs_are_judged_on_one_machine_over_all_runs(before: ResultsFile) -> None:
    slower = changed(
        before, pruned(lambda run: run["seconds"].update(pruning=1.3 * run["seconds"]["pruning"]))
    )
    (found,) = cost_regressions(before, slower, 0.1)
    assert found.startswith("pruning time +30.0 % over 4 runs")
    assert compare(before, slower, no_results()).regressions == []
    assert cost_regressions(before, slower, 0.5) == cost_regressions(slower, before, 0.1) == []

    def beside_another(content: Content) -> None:
        for run in content["runs"][1:3]:
            run["jobs"] = 2

    with pytest.raises(ValueError, match="times compare with one machine only, got two cores and"):
        cost_regressions(
            before, changed(before, lambda content: content.update(machine="four cores")), 0.1
        )
    with pytest.raises(ValueError, match="with one number of jobs only, got None and 2, None"):
        cost_regressions(before, changed(before, beside_another), 0.1)
    with pytest.raises(ValueError, match="times must be a share of 0 or more, got -1"):
        cost_regressions(before, before, -1)


def test_another_text_of_the_same_name_is_another_draw(
    before: ResultsFile, recorded: ResultsFile
) -> None:
    def drawn_from(text: str) -> Callable[[Content], None]:
        return pruned(lambda run: run.update(calibration_text={"windows_sha256": text}))

    first = changed(before, drawn_from("a"))
    worse = changed(before, layers(lambda layer: layer.update(error=1.06 * layer["error"])))
    second = changed(worse, drawn_from("b"))
    assert compare(first, first, recorded).regressions == []
    found = compare(first, second, recorded)
    assert found.regressions == []  # 6 % on the same draw would be one
    assert all(
        "other draw" in change.basis
        for pair in found.pairs
        for change in pair.changes
        if change.measure == "layer error"
    )


def evaluated(**told: Any) -> Callable[[Content], None]:
    """The same perplexities, of other windows."""

    def change(content: Content) -> None:
        for run in content["runs"]:
            run |= told

    return change


def texts(digits: str) -> dict[str, Any]:
    return {"evaluation_text": {"windows_sha256": digits * 64}}


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (
            {"windows": 16, "seqlen": 1024, "tokens": 16368},
            {"windows": 8, "seqlen": 1024, "tokens": 8184},
            "16 windows of 1024 tokens (16368 scored) → 8 windows of 1024 tokens (8184 scored)",
        ),
        (texts("a"), texts("b"), f"4 windows of text {'a' * 12} → 4 windows of text {'b' * 12}"),
        ({}, texts("b"), f"4 windows → 4 windows of text {'b' * 12}"),
        ({"windows": None}, {"windows": 4}, "windows that are not told → 4 windows"),
    ],
)
def test_perplexities_of_other_windows_are_not_compared_and_that_is_said(
    before: ResultsFile, first: Content, second: Content, words: str
) -> None:
    found = against(changed(before, evaluated(**first)), evaluated(**{**first, **second}))
    measures = {change.measure for pair in found.pairs for change in pair.changes}
    assert "layer error" in measures
    assert "perplexity" not in measures
    assert found.regressions == []
    *_, last = told = list(lines(found))
    runs = "dense, thanos 2:4, sparsegpt 2:4 and 2 more"
    assert f"setting  evaluation of {runs}: {words}; perplexity is NOT JUDGED" in told
    assert last == (
        "No regression beyond noise, but 1 of 5 runs are NOT JUDGED, and perplexity of 5 of 5 "
        "runs is NOT JUDGED: another evaluation."
    )
    assert found.as_dict()["runs"][1]["evaluation"] == words.split(" → ")


def test_runs_with_the_same_evaluation_still_compare_their_perplexity(before: ResultsFile) -> None:
    def change(content: Content) -> None:
        content["runs"][1]["windows"] = 8
        content["runs"][2]["perplexity"] *= 1.11

    found = against(before, change)
    (worse,) = found.regressions
    assert worse.startswith("sparsegpt 2:4: perplexity +11.00 %")
    told = list(lines(found))
    assert (
        "setting  evaluation of thanos 2:4: 4 windows → 8 windows; perplexity is NOT JUDGED" in told
    )
    assert told[-1].endswith("but perplexity of 1 of 5 runs is NOT JUDGED: another evaluation.")


def test_windows_that_two_seeds_swapped_do_not_compare(tmp_path: Path) -> None:
    def counted(*windows: int) -> Callable[[Content], None]:
        return pruned(lambda run: run.update(windows=windows[run["calibration"]["seed"]]))

    two = read_results(made(tmp_path / "two", [0, 1]))
    found = compare(changed(two, counted(4, 8)), changed(two, counted(8, 4)), no_results())
    assert found.evaluations == {
        ("4 windows and 8 windows", "8 windows and 4 windows"): [f"{m} 2:4" for m in METHODS]
    }


def test_why_nothing_could_be_judged_is_said(before: ResultsFile) -> None:
    dense = changed(before, lambda content: content.update(runs=content["runs"][:1]))
    with pytest.raises(
        ValueError,
        match="nothing can be judged: perplexities of other windows, 4 windows → 8 windows",
    ):
        against(dense, evaluated(windows=8))
    with pytest.raises(ValueError, match="nothing can be judged: perplexity is lost"):
        against(dense, evaluated(perplexity=None))


def test_python_is_among_what_differs(before: ResultsFile) -> None:
    found = against(before, lambda content: content.update(python="3.99"))
    assert found.settings == {"python": (None, "3.99")}


def test_a_layer_that_failed_on_one_draw_before_is_no_news(tmp_path: Path) -> None:
    several = read_results(made(tmp_path / "several", [0, 1, 2]))

    def fails_on(seed: int) -> Callable[[Content], None]:
        return with_seed(seed, lambda run: run["layers"][2].update(passed=False))

    failing = changed(several, fails_on(1))
    assert compare(failing, failing, no_results()).regressions == []
    worse = changed(failing, fails_on(2))
    found = compare(failing, worse, no_results()).regressions
    assert len(found) == len(METHODS)
    assert all("layers.1.q_proj was certified and is not any more" in what for what in found)


def test_layers_with_other_names_are_lost_and_not_compared(before: ResultsFile) -> None:
    found = against(before, layers(lambda layer: layer.update(name=f"decoder.{layer['name']}")))
    assert "thanos 2:4: layers.0.q_proj is lost" in found.regressions
    measures = {change.measure for pair in found.pairs for change in pair.changes}
    assert measures == {"perplexity"}


def test_rows_and_json(tmp_path: Path, before: ResultsFile) -> None:
    found = compare(before, read_results(made(tmp_path / "worse", [0], 1.02)), no_results())
    row = next(row for row in rows(found) if row[0] == "thanos 2:4")
    assert row[1].endswith("+2.00 %")
    assert row[5:] == ["10.0 +0.00 %", "1024 +0.00 %", "50.00 %", "REGRESSION"]
    write_comparison(found, tmp_path / "comparison.json")
    written = json.loads((tmp_path / "comparison.json").read_text())
    assert written["regressions"] == found.regressions
    assert written["before"]["machine"] == "two cores"
    assert written["runs"][1]["changes"][1]["verdict"] == "higher"


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"runs": [{}]}', '{"runs": [{"run": 1}]}'])
def test_what_is_no_results_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=r"results\.json is no results file"):
        read_results(tmp_path)


def test_a_layer_without_what_is_judged_is_named(before: ResultsFile) -> None:
    for missing in ("name", "removed", "passed"):

        def forget(content: Content, missing: str = missing) -> None:
            del content["runs"][1]["layers"][2][missing]

        with pytest.raises(ValueError, match=f"is no results file: KeyError '{missing}'"):
            changed(before, forget)


def test_results_that_are_not_there(tmp_path: Path, before: ResultsFile) -> None:
    with pytest.raises(ValueError, match="results must be a file, or a folder"):
        read_results(tmp_path / "none")
    with pytest.raises(ValueError, match="have no run in common"):
        compare(before, no_results(), no_results())
