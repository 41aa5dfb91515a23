"""The pages on the cost of pruning: seconds and bytes of a layer, predictions, and the speed limits."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

from verification.benchmarks.pages.page import Page
from verification.benchmarks.pages.studies import Results
from verification.benchmarks.pages.style import COLOURS, SERIES, WIDTH, log_axis
from verification.benchmarks.pages.tables import folded, markdown, signed, source_line
from verification.benchmarks.performance.cases import BLOCK_SIZE, UNSTRUCTURED
from verification.benchmarks.performance.cost import NAMES, spread
from verification.benchmarks.performance.cost_model import label, layer_work, predicted
from verification.benchmarks.performance.speed import SEMI_SHARE, UNSTRUCTURED_SHARE, promises

Content = Mapping[str, Any]
GIB = 2**30
LARGEST = 16384  # columns up to which predicted lines are drawn
SPEED_HEADINGS = ["layer", "pattern", "method", "seconds", "products", "of published", "MiB"]
LLAMA_HEADINGS = ["model", "pattern", "calibration", "pruning", "without certificates", "GiB",
                  "GiB with certificates"]  # fmt: skip
LAYER_HEADINGS = ["pattern", "method", "seconds", "repeats differ by", "MiB"]
RATIO_HEADINGS = ["comparison", "pattern", "× seconds", "from", "to", "repeats differ by", "× MiB"]
ERROR_HEADINGS = ["what", "held-out cases", "median", "worst", "on the largest"]
PROMISE_HEADINGS = ["promise", "kept", "measured"]
BLOCK_HEADINGS = ["block size B", "seconds", "× B = 128"]
KINDS = {"unstructured": "unstructured 50 %", "semi": "2:4", "structured": "structured 30 %"}


def llama_rows(content: Content) -> Iterator[list[str]]:
    """A row for each Llama and pattern pruned by Thanos. Columns: LLAMA_HEADINGS."""
    for each in content["predictions"]:
        calibration = each["seconds"]["passes"] + each["seconds"]["gram"]
        pruning = each["seconds"]["pruning"]
        yield [
            each["model"],
            label(each["run"]).removeprefix("thanos "),
            *map(hours, (calibration, pruning, calibration + pruning)),
            f"{each['peak_bytes'] / GIB:.0f}",
            f"{each['peak_with_certificates_bytes'] / GIB:.0f}",
        ]


def layer_rows(content: Content) -> Iterator[list[str]]:
    """A row for each run that pruned the largest layer. Columns: LAYER_HEADINGS."""
    largest = content["ratios"]["refit"]["layers"][0]
    for each in content["runs"]:
        run = each["run"]
        for layer in each["layers"]:
            if layer["name"] == largest and run["block_size"] == BLOCK_SIZE:
                yield [
                    run["pattern"],
                    label(run).rpartition(" ")[0],
                    f"{layer['seconds']:.2f}",
                    f"{spread(layer):.0%}",
                    f"{layer['peak_memory_bytes'] / 2**20:.0f}",
                ]


def ratio_rows(content: Content) -> Iterator[list[str]]:
    """Thanos against SparseGPT, and a refit against none. Columns: RATIO_HEADINGS."""
    for kind, each in content["ratios"].items():
        seconds = each["seconds"]
        what = "a refit over none" if kind == "refit" else "Thanos over SparseGPT"
        times = [f"{seconds[name]:.2f}" for name in ("median", "least", "greatest")]
        memory = f"{each['peak_memory_bytes']['median']:.2f}"
        repeats = f"{each['spread']:.0%}"
        yield [what, KINDS.get(kind, KINDS["unstructured"]), *times, repeats, memory]


def error_rows(content: Content) -> Iterator[list[str]]:
    """How wrong the model is on held-out sizes. Columns: ERROR_HEADINGS."""
    for quantity, each in content["errors"].items():
        ends = dict.fromkeys(f"{signed(end, 0)} %" for end in each["largest"])
        worst = f"{each['worst']:.0f} % ({each['where']})"
        largest = f"{' to '.join(ends)} ({each['size']})"
        yield [NAMES[quantity], str(each["count"]), f"{each['median']:.0f} %", worst, largest]


def speed_rows(content: Content) -> Iterator[list[str]]:
    """A row for each timed layer. Columns: SPEED_HEADINGS. No time without a certificate."""
    for each in content["layers"]:
        notes = [f"B = {each['block_size']}"] if each["block_size"] != BLOCK_SIZE else []
        notes += ["correlated inputs"] if each["inputs"] == "correlated" else []
        times = [f"{each['seconds']:.2f}", f"{each['units']:.1f}", _share(each)]
        yield [
            "{} × {}".format(*each["shape"]),
            ", ".join([each["pattern"], *notes]),
            each["method"],
            *(times if each["certified"] else ["not certified"] * 3),
            f"{each['memory'] / 2**20:.0f}",
        ]


def promise_rows(content: Content) -> Iterator[list[str]]:
    """What `thanos bench speed` promises. Columns: PROMISE_HEADINGS."""
    return ([what, "yes" if holds else "NO", how] for what, holds, how in promises(content))


def judged(content: Content) -> list[Content]:
    """The timings of Thanos that are held against the published SparseGPT."""
    timings = content["layers"]
    return [each for each in timings if each["method"] == "thanos" and each["limit"] is not None]


def _share(timed: Content) -> str:
    share = timed["share_of_published"]
    return "" if share is None else f"{share:.2f}"


def block_rows(content: Content) -> Iterator[list[str]]:
    """Seconds of unstructured Thanos by block size. Columns: BLOCK_HEADINGS."""
    sweep = content["growth"]["sweeps"]["B"]
    base = dict(sweep)[BLOCK_SIZE]
    return ([str(B), f"{seconds:.3f}", f"{seconds / base:.1f}"] for B, seconds in sweep)


def hours(seconds: float) -> str:
    """A time with the unit that suits it."""
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.1f} d"


def draw_cost(content: Content) -> Any:
    """Seconds against size: unstructured pruning of square layers; points measured, lines fitted."""
    figure, panel = plt.subplots(figsize=(WIDTH, 4.4), layout="constrained")
    for each in content["runs"]:
        run = each["run"]
        if run["pattern"] != UNSTRUCTURED or run["block_size"] != BLOCK_SIZE:
            continue
        method = label(run).rpartition(" ")[0]
        squares = [layer for layer in each["layers"]
                   if layer["passed"] and len({*layer["shape"]}) == 1]  # fmt: skip
        for layer in squares:
            panel.plot(layer["shape"][1], layer["seconds"], "o", color=COLOURS[method], markersize=5,
                       markerfacecolor="white" if layer["held_out"] else None, zorder=3)  # fmt: skip
        measured = [layer["shape"][1] for layer in squares]
        ends = min(measured), max(measured), LARGEST
        for first, last, style in ((*ends[:2], "-"), (*ends[1:], ":")):
            sides = np.geomspace(first, last, 20)
            line = [predicted(content["model_fitted"], "pruning", layer_work(b, b), label(run))
                    for b in sides]  # fmt: skip
            panel.plot(sides, line, style, color=COLOURS[method], linewidth=1.2,
                       label=method if style == "-" else None)  # fmt: skip
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
    log_axis(panel.yaxis)
    panel.set(xlabel="rows and columns of the layer", ylabel="seconds of pruning (log scale)")
    handles, names = panel.get_legend_handles_labels()
    for fill, name in (("black", "measured, fitted"), ("white", "measured, held out")):
        handles.append(
            Line2D([], [], marker="o", linestyle="", color="black", markerfacecolor=fill)
        )
        names.append(name)
    handles.append(Line2D([], [], color="black", linestyle=":"))
    panel.legend(handles, [*names, "predicted beyond"], loc="upper left", fontsize=9)
    return figure


def draw_speed(content: Content) -> Any:
    """Time of Thanos as a share of the published SparseGPT's: bars by layer and pattern."""
    shapes = [each["shape"] for each in content["published"]]
    patterns = list(dict.fromkeys(each["pattern"] for each in judged(content)))
    figure, panel = plt.subplots(figsize=(WIDTH, 4.0), layout="constrained")
    height = 0.8 / len(patterns)
    for number, (pattern, colour) in enumerate(zip(patterns, SERIES, strict=True)):
        shares = {tuple(each["shape"]): each["share_of_published"] for each in judged(content)
                  if each["pattern"] == pattern}  # fmt: skip
        places = [row + (number - (len(patterns) - 1) / 2) * height for row in range(len(shapes))]
        shown = panel.barh(places, [shares[tuple(shape)] for shape in shapes], height, color=colour,
                           label=pattern)  # fmt: skip
        panel.bar_label(shown, fmt="%.2f", padding=2, fontsize=8)
    panel.axvline(1, color="black", linewidth=1)
    for limit, name in ((UNSTRUCTURED_SHARE, "limit, unstructured"), (SEMI_SHARE, "limit, n:m")):
        panel.axvline(limit, color="black", linewidth=1, linestyle=":")
        panel.text(limit, -0.5, f"{name} ", rotation=90, va="top", ha="right", fontsize=8)
    panel.set_yticks(range(len(shapes)), ["{} × {}".format(*shape) for shape in shapes])
    panel.invert_yaxis()
    panel.set_xlabel("time of Thanos; the published SparseGPT takes 1")
    panel.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=9)
    return figure


def _table(
    name: str,
    headings: list[str],
    rows: Callable[[Content], Any],
    left: int = 1,
    origin: bool = False,
) -> Callable[[Results], str]:
    """A table of a results file; with `origin` it says how the numbers were measured."""

    def table(results: Results) -> str:
        content = results.content(name)
        text = markdown(headings, list(rows(content)), left=left)
        return (
            f"{text}\n\n{folded('How this was measured', source_line(content))}" if origin else text
        )

    return table


COST = Page(
    "cost",
    "What does pruning cost?",
    {
        "cost llama": _table("cost", LLAMA_HEADINGS, llama_rows, left=2, origin=True),
        "cost ratios": _table("cost", RATIO_HEADINGS, ratio_rows, left=2),
        "cost layers": _table("cost", LAYER_HEADINGS, layer_rows, left=2),
        "cost errors": _table("cost", ERROR_HEADINGS, error_rows),
    },
    {"cost": lambda results: draw_cost(results.content("cost"))},
)
SPEED = Page(
    "speed",
    "How fast is Thanos beside the published SparseGPT?",
    {
        "speed promises": _table("speed", PROMISE_HEADINGS, promise_rows, left=3, origin=True),
        "speed layers": _table("speed", SPEED_HEADINGS, speed_rows, left=3),
        "speed block sizes": _table("speed", BLOCK_HEADINGS, block_rows),
    },
    {"speed": lambda results: draw_speed(results.content("speed"))},
)
