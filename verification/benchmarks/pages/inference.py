"""The page of an inference.json: answers first, then the tables that they come from."""

from typing import Any

from verification.benchmarks.inference.measure import verdict
from verification.benchmarks.pages.tables import LARGE, markdown, span

LAYER_HEADINGS = ["layer", "pattern", "tokens", "nn.Linear ms", "compact ms", "time, compact / nn.Linear",
                  "95 % interval", "bytes", "verdict"]  # fmt: skip
MODEL_HEADINGS = ["pattern", "runs as", "prefill ms", "of dense", "95 % interval", "decode ms a token", "of dense",
                  "95 % interval", "weights MiB", "peak MiB"]  # fmt: skip
STAGES = {"prefill": "prefill", "decoding": "decode"}  # in words, and their keys
COLD = 2**30  # bytes of copies that take turns: more than caches usually hold


def page(results: dict[str, Any]) -> str:
    """Markdown, from the results alone."""
    lines = [
        "# How fast is the pruned model, and how much memory does it take?",
        "",
        *answers(results),
        "",
        "![Time of every form](inference.png)",
        "",
        "What the forms are: [forms](../forms.md); how many bytes they take: [size](size.md).",
        "",
        "## Single layers, float32",
        "",
        markdown(LAYER_HEADINGS, layer_rows(results), left=2),
        "",
        "Medians of repeats that take turns; in brackets are quartiles of milliseconds, and 95 % intervals of ratios. Copies of each",
        f"layer take turns too, {_turns(results['settings']['turn_bytes'])}. A layer or model is called faster or slower only",
        "where the 95 % interval of the median ratio leaves out 1; without an interval neither is shown. Each interval is for",
        "its own comparison: none is corrected for how many there are on this page.",
        "",
        f"## {results['settings']['model']}",
        "",
        markdown(MODEL_HEADINGS, model_rows(results), left=2),
        "",
        "Prefill reads {prompt} tokens; then {tokens} tokens are decoded one by one with a cache. "
        .format(**results["settings"])
        + f"{results['settings']['rounds']} rounds of all",
        "models in turns; ratios are taken round by round, as rounds are not equally fast: their median is not that of the "
        "milliseconds' medians. Weights are all parameters and buffers; peak is",
        "the memory of a process that runs this model alone, Python and PyTorch included, after loading.",
        f"Control, the dense model against itself: {_time_answer(results['control'])}.",
        _certified(results),
        "",
        source(results),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def answers(results: dict[str, Any]) -> list[str]:
    """What the numbers say, as a list."""
    large = [each for each in results["layers"] if _weights(each) >= LARGE]
    small = [each for each in results["layers"] if _weights(each) < LARGE]
    found = []
    for what, layers in (("2048 x 2048 and larger", large), ("smaller layers", small)):
        if layers:
            found.append(f"- **{what}**: {_layer_answer(layers)}")
    dense = results["runs"][0]  # what times are held against, too
    pruned = [run for run in results["runs"] if run["run"]["pattern"]]
    for run in pruned:
        if run["run"]["form"] != "dense":
            how = f"{run['run']['pattern']}, {form_name(run['run']['form'])}"
            found.append(
                f"- **{how}**: {_time_answer(run['latency'])}; {_memory_answer([run], dense)}."
            )
    as_dense = [run for run in pruned if run["run"]["form"] == "dense"]
    if as_dense:
        found.append(f"- **{form_name('dense')}**: {_as_dense_answer(as_dense, dense)}.")
    if results["settings"]["device"] == "cpu":
        found.append(
            "- **Not measured**: 2:4 on the sparse units of a GPU, which this machine lacks; it is only tested to be correct, "
            "see [forms](../forms.md)."
        )
    return found


def _time_answer(latency: dict[str, Any]) -> str:
    """Of a model: every stage against the dense one's."""
    return "; ".join(
        f"{what} takes {times_dense(latency[key]['ratio'])}" for what, key in STAGES.items()
    )


def _as_dense_answer(runs: list[dict[str, Any]], dense: dict[str, Any]) -> str:
    """Of those whose zeros stay where they are: all patterns at once."""
    times = []
    verdicts = set()
    for what, key in STAGES.items():
        ratios = [run["latency"][key]["ratio"] for run in runs]
        medians = span((ratio["median"] for ratio in ratios), "{:.2f}".format)
        times.append(f"{what} takes {medians}")
        verdicts |= set(map(verdict, ratios))
    patterns = ", ".join(run["run"]["pattern"] for run in runs)
    return (
        f"{' and '.join(times)} times the dense time in {patterns}: {' or '.join(sorted(verdicts))}; "
        f"{_memory_answer(runs, dense)}"
    )


def _certified(results: dict[str, Any]) -> str:
    pruned = [run for run in results["runs"] if run["run"]["pattern"]]
    passed = sum(run["verified"] for run in pruned)
    return (
        f"Models whose layers were all certified when they were pruned: {passed} of {len(pruned)}."
    )


def _memory_answer(runs: list[dict[str, Any]], dense: dict[str, Any]) -> str:
    """How much memory models take, against the first, whose weights are all there."""
    weights, peak = (
        span((run["memory"][key] / dense["memory"][key] for run in runs), "{:.0%}".format)
        for key in ("model_bytes", "working_peak_bytes")
    )
    return f"weights take {weights}, and the process at its peak {peak}, of the dense memory"


def layer_rows(results: dict[str, Any]) -> list[list[str]]:
    """One for each layer and number of tokens, as in LAYER_HEADINGS."""
    return [
        [
            "{} x {}".format(*each["shape"]),
            each["pattern"],
            str(each["tokens"]),
            _spread(each["dense"]),
            _spread(each["compact"]),
            _median(each["ratio"]),
            _interval(each["ratio"]),
            f"{each['bytes']['compact'] / each['bytes']['dense']:.1%}",
            verdict(each["ratio"]),
        ]
        for each in results["layers"]
    ]


def model_rows(results: dict[str, Any]) -> list[list[str]]:
    """One for each way to run the model, as in MODEL_HEADINGS."""
    return [
        [
            run["run"]["pattern"] or "not pruned",
            form_name(run["run"]["form"]) if run["run"]["pattern"] else "dense",
            _spread(run["latency"]["prefill"]),
            *_against_dense(run, "prefill"),
            _spread(run["latency"]["decode"]),
            *_against_dense(run, "decode"),
            f"{run['memory']['model_bytes'] / 2**20:.0f}",
            f"{run['memory']['working_peak_bytes'] / 2**20:.0f}",
        ]
        for run in results["runs"]
    ]


def _against_dense(run: dict[str, Any], what: str) -> list[str]:
    ratio = run["latency"][what]["ratio"]
    return [_median(ratio), _interval(ratio) if run["run"]["pattern"] else ""]


def source(results: dict[str, Any]) -> str:
    """Which command made the numbers, and where."""
    return (
        f"Measured by `{results['command']}` at commit {results['commit']} on {results['machine']}, "
        f"torch {results['versions']['torch']}, {results['settings']['threads']} threads, "
        f"{results['date'][:10]}: {results['wall_seconds'] / 60:.1f} minutes."
    )


def form_name(form: str) -> str:
    """For people."""
    return "zeros in place" if form == "dense" else form


def ratio_text(ratio: dict[str, Any]) -> str:
    """The median and the verdict, for a table."""
    return f"{_median(ratio)} ({verdict(ratio)})"


def times_dense(ratio: dict[str, Any]) -> str:
    """The end of a sentence: a time against the dense model's, the verdict last."""
    return f"{_median(ratio)} times the dense time ({_interval(ratio)}): {verdict(ratio)}"


def _layer_answer(layers: list[dict[str, Any]]) -> str:
    fast = [each for each in layers if verdict(each["ratio"]) == "faster"]
    ratios = [each["ratio"]["median"] for each in fast]
    others = "; ".join(
        "{} x {} at {} tokens, {}: {}".format(
            *each["shape"], each["tokens"], each["pattern"], verdict(each["ratio"])
        ).replace(" 1 tokens", " 1 token")
        for each in layers
        if each not in fast
    )
    said = f"the compact layer is faster than nn.Linear in {len(fast)} of {len(layers)} cases"
    if fast:
        said += f", where it takes {min(ratios):.2f} to {max(ratios):.2f} of its time"
    return f"{said}. **Not shown to be faster**: {others}." if others else f"{said}."


def _turns(turn_bytes: int) -> str:
    """How many bytes of copies take turns, and what that means for where weights come from."""
    meaning = (
        "so that weights come from memory"
        if turn_bytes >= COLD
        else "which a large cache may hold: weights may not come from memory"
    )
    return f"{turn_bytes / 2**20:.0f} MiB of them, {meaning}"


def _median(ratio: dict[str, Any]) -> str:
    return f"{ratio['median']:.2f}"


def _interval(ratio: dict[str, Any]) -> str:
    return "{:.2f} to {:.2f}".format(*ratio["interval"]) if ratio["interval"] else "too few repeats"


def _spread(seconds: dict[str, Any]) -> str:
    middle, low, high = (
        f"{1000 * each:,.0f}" if each >= 0.1 else f"{1000 * each:.3g}"
        for each in (seconds["median"], *seconds["quartiles"])
    )
    return f"{middle} ({low} to {high})"


def _weights(layer: dict[str, Any]) -> int:
    rows, columns = layer["shape"]
    return int(rows * columns)
