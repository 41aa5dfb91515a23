"""The pages on inference: time, memory and bytes of a pruned model in every form."""

from collections.abc import Iterator
from typing import Any

from verification.benchmarks.inference.measure import verdict
from verification.benchmarks.inference.plots import draw_inference, draw_sizes
from verification.benchmarks.pages.page import Page
from verification.benchmarks.pages.studies import Results
from verification.benchmarks.pages.tables import folded, markdown, source_line

LAYER_HEADINGS = ["layer", "pattern", "tokens", "nn.Linear ms", "compact ms", "ratio", "verdict"]
MODEL_HEADINGS = [
    "pattern",
    "form",
    "prefill ms",
    "of dense",
    "decoding ms",
    "of dense",
    "peak MiB",
]
SIZE_HEADINGS = ["pattern", "stored as", "32 bits", "16 bits", "folder MB", "in memory MiB"]
BYTE_HEADINGS = [
    "pattern",
    "stored as",
    "32 bits, formula",
    "32 bits, files",
    "16 bits, formula",
    "folder",
    "in memory",
]


def layer_rows(results: dict[str, Any]) -> list[list[str]]:
    """A row for each layer, pattern and number of tokens. Columns: LAYER_HEADINGS."""
    return [
        [
            "{} × {}".format(*each["shape"]),
            each["pattern"],
            str(each["tokens"]),
            _milliseconds(each["dense"]),
            _milliseconds(each["compact"]),
            _ratio(each["ratio"]),
            verdict(each["ratio"]),
        ]
        for each in results["layers"]
    ]


def model_rows(results: dict[str, Any]) -> list[list[str]]:
    """A row for each way to run the model. Columns: MODEL_HEADINGS."""
    return [
        [
            run["run"]["pattern"] or "not pruned",
            form_name(run["run"]["form"]) if run["run"]["pattern"] else "dense",
            _milliseconds(run["latency"]["prefill"]),
            _ratio(run["latency"]["prefill"]["ratio"]) if run["run"]["pattern"] else "",
            _milliseconds(run["latency"]["decode"]),
            _ratio(run["latency"]["decode"]["ratio"]) if run["run"]["pattern"] else "",
            f"{run['memory']['working_peak_bytes'] / 2**20:,.0f}",
        ]
        for run in results["runs"]
    ]


def size_rows(results: dict[str, Any]) -> Iterator[list[str]]:
    """A row for every pattern and form: shares of the dense bytes. Columns: SIZE_HEADINGS."""
    for pattern, form, sizes, written, run in _stored(results):
        formulas = sizes["formulas"]
        shares = [f"{formulas[form][bits] / formulas['dense'][bits]:.1%}" for bits in ("4", "2")]
        folder = f"{_folder(sizes, written) / 1e6:.0f}" if written is not None else ""
        memory = f"{run['memory']['model_bytes'] / 2**20:.0f}" if run else "unpacked"
        yield [pattern, form_name(form), *shares, folder, memory]


def byte_rows(results: dict[str, Any]) -> Iterator[list[str]]:
    """A row for every pattern and form, to the byte. Columns: BYTE_HEADINGS."""
    for pattern, form, sizes, written, run in _stored(results):
        formula = sizes["formulas"][form]
        known = written is not None
        yield [
            pattern,
            form_name(form),
            f"{formula['4']:,}",
            f"{sizes['disk']['pruned'][written]:,}" if known else "",
            f"{formula['2']:,}",
            f"{_folder(sizes, written):,}" if known else "",
            f"{run['memory']['model_bytes']:,}" if run else "unpacked",
        ]


def _stored(results: dict[str, Any]) -> Iterator[tuple[str, str, Any, Any, Any]]:
    """Pattern, form, sizes, the index of the folder that was written in it, and its run."""
    by_pattern: dict[str, dict[str, Any]] = {}
    for run in results["runs"]:
        if "sizes" in run:
            by_pattern.setdefault(run["run"]["pattern"], {})[run["run"]["form"]] = run
    for pattern, runs in by_pattern.items():
        sizes = next(iter(runs.values()))["sizes"]
        written = {"dense": 0, sizes["forms"][0]: 1}
        for form in sizes["formulas"]:
            yield pattern, form, sizes, written.get(form), runs.get(form)


def _folder(sizes: dict[str, Any], written: int) -> int:
    """Bytes of a folder. The dense one is counted without its masks, which it does not need."""
    total, masks = (sizes["disk"][name][written] for name in ("total", "masks"))
    return int(total if written else total - masks)


def form_name(form: str) -> str:
    """The name of a form for people."""
    return "zeros in place" if form == "dense" else form


def _milliseconds(seconds: dict[str, Any]) -> str:
    value = 1000 * seconds["median"]
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ratio(ratio: dict[str, Any]) -> str:
    ends = " ({:.2f} to {:.2f})".format(*ratio["interval"]) if ratio["interval"] else ""
    return f"{ratio['median']:.2f}{ends}"


def _with_source(headings: list[str], rows: Any) -> Any:
    def table(results: Results) -> str:
        content = results.content("inference")
        origin = folded("How this was measured", source_line(content))
        return f"{markdown(headings, list(rows(content)), left=2)}\n\n{origin}"

    return table


INFERENCE = Page(
    "inference",
    "How fast is the pruned model, and how much memory does it take?",
    {
        "inference models": _with_source(MODEL_HEADINGS, model_rows),
        "inference layers": _with_source(LAYER_HEADINGS, layer_rows),
    },
    {"inference": lambda results: draw_inference(results.content("inference"))},
)
SIZE = Page(
    "size",
    "How much smaller is the pruned model?",
    {
        "size": _with_source(SIZE_HEADINGS, size_rows),
        "size bytes": _with_source(BYTE_HEADINGS, byte_rows),
    },
    {"size": lambda results: draw_sizes(results.content("inference"))},
)
