"""The sections of cost.md: tables, and what their columns mean."""

from collections.abc import Iterable, Mapping
from typing import Any

from verification.benchmarks.pages import cost_bias as bias
from verification.benchmarks.pages.tables import markdown
from verification.benchmarks.performance.cost_model import NAMES, label
from verification.benchmarks.performance.growth import last_step, sides
from verification.benchmarks.performance.laws import STAGES
from verification.benchmarks.performance.steadiness import scales

Results = Mapping[str, Any]
HOUR, GIB = 3600.0, 2.0**30
UNCHECKED = "not checked"
STEEPER = 0.1  # than the exponent of the whole line, for a last step to be called so


def predictions(results: Results) -> list[str]:
    """All of them; units of the peak let a reader scale them to another machine."""
    if not results["predictions"]:
        return []
    peak = max(each["operations_per_second"] for each in results["peak"])
    by_model: dict[str, list[list[str]]] = {}
    for each in results["predictions"]:
        seconds = each["seconds"]
        by_model.setdefault(each["model"], []).append([
            label(each["run"]), hours(seconds["calibration"]), hours(seconds["gram"]),
            hours(pruning(seconds)), margin(results, each["run"]), hours(needed(seconds)),
            pflop(needed(seconds) * peak / 1e15), hours(seconds["certificates"]),
            f"{each['peak_bytes'] / GIB:,.0f}", f"{each['peak_with_certificates_bytes'] / GIB:,.0f}",
        ])  # fmt: skip
    headings = ["method", "passes", "Gram matrices", "pruning", "±", "all of those",
                "in Pflop at peak", "certificates", "GiB", "GiB with certificates"]  # fmt: skip
    lines = ["## Predictions", ""]
    for model, rows in by_model.items():
        lines += [f"### {model}", "", _table(headings, rows), ""]
    windows = results["settings"]["calibration"]
    return [
        *lines,
        f"Not measured but predicted, for {windows['windows']} windows of {windows['length']} tokens. Times are those of float32: passes, Gram matrices and "
        "pruning were all timed in it. Memory counts the decoder block, embeddings and activations in bfloat16, as the published "
        "checkpoints are; a machine's passes in bfloat16 may take more time or less. Gram matrices and the layer at work are in "
        "float32 in both. The solver takes at least as many steps as it did on the real model below. The model was "
        f"fitted to layers of at most {_largest(results, False)} and held against layers of up to "
        f"{_largest(results, True)}; nothing here checks the way beyond those.{_revised(results)} *±*: its worst error on held-out "
        "layers with this method, pattern, refit and B, of pruning alone: passes and Gram matrices, which take most of the time, have "
        f"their errors in the list above.{_unchecked(results)} *Passes*: every decoder block runs twice over all tokens. *In Pflop at peak*: that time in "
        f"operations of float32 products, of which this machine does {peak / 1e9:,.0f} Gflop a second{_least_peak(results)}; over the peak of another "
        "machine it is the time there, if its memory is as fast beside its products. *GiB*: one decoder block twice in "
        "bfloat16, embeddings, two batches of activations, a block's Gram matrices and the layer at work, without the program "
        "itself; certificates by a rough count. The same sum was [held against a checkpoint](../long-runs.md#memory) that was pruned.",
        "",
        *bias.on_the_largest(results),
    ]


def _unchecked(results: Results) -> str:
    """Rows that no held-out layer is like, and what fitted layers with such blocks say of them."""
    runs = [each["run"] for each in results["predictions"]]
    if all(margin(results, run) != UNCHECKED for run in runs):
        return ""
    measured = [each["run"] for each in results["runs"]]
    missing = dict.fromkeys(label(run) for run in runs if run not in measured)
    none = f"; none was measured at all with {'; '.join(missing)}" if missing else ""
    return f" *{UNCHECKED.capitalize()}*: no layer was held out with these four{none}.{bias.wider_blocks(results)}"


def _least_peak(results: Results) -> str:
    """What a machine that other programs share did at its slowest."""
    least = min(each["operations_per_second"] for each in results["peak"])
    most = max(each["operations_per_second"] for each in results["peak"])
    return f" ({least / 1e9:,.0f} when it was measured again)" if least < 0.95 * most else ""


def _revised(results: Results) -> str:
    """Held-out sizes that were looked at before the model was as it is prove a little less."""
    if results["profile"] != "standard":
        return ""
    return (
        " After earlier runs had missed two of the bounds below, on sizes that are held out here again, its laws were revised, sizes "
        "that are no powers of two were added to the fitted ones, and times were taken at the machine's usual speed; layers of "
        "896 x 2304 and Gram matrices of 896 columns were measured after that for the first time."
    )


def _largest(results: Results, held_out: bool) -> str:
    layers = [layer for each in results["runs"] for layer in each["layers"]]
    shapes = [each["shape"] for each in layers if each["held_out"] == held_out]
    weights = max(rows * columns for rows, columns in shapes) / 1e6
    return f"{weights:.1f} million weights and {max(columns for _, columns in shapes):,} columns"


def small_models(results: Results) -> list[str]:
    """Whole models that were predicted and measured."""
    lines = []
    for measured, said in zip(results["model"], results["small_model"], strict=True):
        stages = {"calibration": said["calibration"], "gram": said["gram"], "pruning": pruning(said),
                  "certificates": said["certificates"]}  # fmt: skip
        rows = [
            [name, f"{measured['seconds'][name]:.1f} s", f"{spent:.1f} s",
             f"{spent / measured['seconds'][name] - 1:+.0%}"]
            for name, spent in stages.items()
        ]  # fmt: skip
        lines += [
            f"## A real model: {measured['model']}",
            "",
            "Thanos, unstructured 50 %, pruned for this page with real activations: small layers, "
            f"{measured['tokens']:,} tokens. The solver took {measured['steps']['last']:.1f} steps in the mean of the "
            f"layers' last blocks, {measured['steps']['before']:.1f} in the others.",
            "",
            _table(["stage", "measured", "predicted", "off by"], rows),
            "",
            "*Measured*: on some of the decoder blocks, as if all were alike. *Predicted*: with the steps that the solver was measured "
            f"to take here: the last column checks the cost of a step, not their number.{_bias(stages, measured)}",
            "",
        ]
    return lines


def _bias(said: Mapping[str, float], measured: Mapping[str, Any]) -> str:
    """Where the model errs to one side."""
    low = [said[name] < measured["seconds"][name] for name in said]
    if all(low):
        return " Every stage takes longer than predicted."
    return "" if any(low) else " Every stage takes less than predicted."


def growth(results: Results) -> list[str]:
    """Slopes: 2 means four times the cost for twice the variable."""
    rows = [
        [
            label({"block_size": 128, **each["run"]}).removesuffix(", "),
            each["variable"],
            f"{min(each['values'])} to {max(each['values'])}",
            f"{each['time']:.2f}",
            f"{last_step(each):.2f} (from {each['values'][-2]})",
            "-" if each["memory"] is None else f"{each['memory']:.2f}",
        ]
        for line in results["growth"]
        for each in sides(line)
    ]
    if not rows:
        return []
    headings = ["method", "with", "over", "exponent of time", "of its last step",
                "exponent of memory"]  # fmt: skip
    return [
        "## How it grows",
        "",
        _table(headings, rows),
        "",
        f"Slopes of logarithms, one variable at a time around c = b = {results['settings']['base']}, B = 128; 2 means four times the cost for "
        f"twice the variable. A Gram matrix takes its own b² numbers and those of one batch, however many batches there are: "
        f"its memory does not grow with the tokens.{_steeper(results)}{''.join(map(_turn, results['growth']))}",
        "",
    ]


def _steeper(results: Results) -> str:
    """What the last step is, and how often it is more than the exponent."""
    parts = [part for line in results["growth"] for part in sides(line)]
    more = sum(last_step(part) >= part["time"] + STEEPER for part in parts)
    return (
        " *Of its last step*: the slope of time between the last two values alone, of which the first is in brackets. It is more than "
        f"the exponent by {STEEPER} or more in {more} of {len(parts)} rows: there the time is no one power of the variable, and grows faster at "
        "its end. At the size of a large model's layers the last step counts more than the exponent, in which small layers count as much; but it "
        "rests on two measurements, so that what repeats differ by counts more in it."
    )


def _turn(line: Mapping[str, Any]) -> str:
    """Where the time is least in between."""
    _, *rising = sides(line)
    if not rising:
        return ""
    return (
        f" Over {line['variable']} the time falls, is least at {rising[0]['values'][0]} on this layer, and then rises: each side has a "
        "slope of its own."
    )


def errors(results: Results) -> list[str]:
    """On fitted and on held-out sizes."""
    rows = [
        [NAMES[quantity], role, str(seen["count"]), f"{seen['median']:.1%}", f"{seen['worst']:.1%}", seen["where"]]
        for quantity, roles in results["errors"].items()
        for role, seen in roles.items()
    ]  # fmt: skip
    headings = ["what", "sizes", "cases", "median error", "worst error", "where"]
    return ["## How good the model is", "", _table(headings, rows), "", *bias.by_size(results)]


def coefficients(results: Results) -> list[str]:
    """The fitted model, term by term."""
    rows = [
        [name, " + ".join(f"{each:.3g} · [{term}]" for term, each in terms.items())]
        for name, terms in results["model_fitted"]["coefficients"].items()
    ]
    return [
        "## The model",
        "",
        _table(["of", "seconds, bytes of memory, or steps"], rows),
        "",
        "What the brackets count is in "
        "`verification/benchmarks/performance/laws.py`: products and numbers touched, exact for every shape. "
        "Non-negative least squares of relative errors.",
        "",
        f"All times on this page are at the machine's usual speed: a fixed product was timed beside every case, {_scaled(results)}. Only "
        "the real model's are as the clock told them.",
        "",
    ]


def _scaled(results: Results) -> str:
    """Both directions in which times were brought to the usual speed."""
    factors = scales(results)
    less = [1 - each for each in factors if each < 1]
    more = [each - 1 for each in factors if each > 1]
    return (
        "and the case's times are multiplied by what it took in the median of the run over what it took there. Of "
        f"{len(factors)} cases {len(less)} have less time for it{_at_most(less)}, as the machine was slower beside them, and {len(more)} "
        f"more{_at_most(more)}, as it was faster"
    )


def _at_most(changes: list[float]) -> str:
    return f", by {max(changes):.0%} at most" if changes else ""


def margin(results: Results, run: Mapping[str, Any]) -> str:
    """The worst held-out error of pruning with these options, its B among them."""
    errors = [
        abs(each["error"])
        for each in results["comparisons"]
        if each["quantity"] == "pruning" and each["held_out"] and each["run"] == run
    ]  # fmt: skip
    return f"{max(errors):.0%}" if errors else UNCHECKED


def pruning(seconds: Mapping[str, float]) -> float:
    """All stages of pruning layers."""
    return sum(seconds.get(stage, 0.0) for stage in STAGES)


def needed(seconds: Mapping[str, float]) -> float:
    """All but certificates."""
    return pruning(seconds) + seconds["calibration"] + seconds["gram"]


def pflop(amount: float) -> str:
    """Three digits where there are decimals."""
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.3g}"


def hours(seconds: float) -> str:
    """In the unit that people would use."""
    if seconds < HOUR:
        return f"{seconds / 60:.2g} min"
    return f"{seconds / HOUR:.1f} h" if seconds < 48 * HOUR else f"{seconds / 24 / HOUR:,.1f} d"


def _table(headings: list[str], rows: Iterable[list[str]]) -> str:
    return markdown(headings, list(rows), left=len(headings))
