"""The tables of docs/gpu.md: what pruning takes on a GPU, predicted and measured."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from verification.benchmarks.pages.page import Page
from verification.benchmarks.pages.studies import Results
from verification.benchmarks.pages.tables import folded, markdown, source_line

Content = Mapping[str, Any]
PREDICTED, MEASURED = "gpu/predicted", "gpu/layers"  # results files in docs/results
MEASURED_HEADINGS = ["layer", "pattern", "method", "ms", "× the card's limit", "launches", "MiB",
                     "certificate s"]  # fmt: skip
LAYER_HEADINGS = ["layer", "pattern", "method", "launches", "10⁹ operations", "GB", "ms",
                  "at the limit, ms"]  # fmt: skip
SHOWN = ([4096, 4096], [4096, 14336])  # layers on the page; the results file has more


def layer_rows(content: Content, card: str) -> Iterator[list[str]]:
    """A row for each counted layer, with its time on a card. Columns: LAYER_HEADINGS."""
    for each in content["layers"]:
        times = (f"{1e3 * each[name][card]:.1f}" for name in ("seconds", "limits"))
        shape = "{} × {}".format(*each["shape"])
        yield [shape, each["pattern"], each["method"], *_counts(each), *times]


def model_headings(cards: Sequence[str]) -> list[str]:
    """Headings of `model_rows`."""
    return ["method", "pattern", "launches", *(f"{card}, s" for card in cards)]


def model_rows(content: Content) -> Iterator[list[str]]:
    """A row for each way to prune all layers of Llama-3 8B."""
    for each in content["models"]:
        times = (f"{seconds:.1f}" for seconds in each["seconds"].values())
        yield [each["method"], each["pattern"], f"{each['launches']:,.0f}", *times]


def measured_rows(content: Content) -> Iterator[list[str]]:
    """A row for each timed layer. Columns: MEASURED_HEADINGS. No time of a wrong result."""
    for each in content["layers"]:
        times = [f"{1e3 * each['seconds']:.2f}", f"{each['seconds'] / each['limit']:.1f}"]
        certificate = each["certificate_seconds"]
        yield [
            "{} × {}".format(*each["shape"]),
            each["pattern"],
            each["method"],
            *(times if each["right"] else ["not certified"] * 2),
            "" if each["launches"] is None else f"{each['launches']:,}",
            "" if each["memory"] is None else f"{each['memory'] / 2**20:,.0f}",
            "" if certificate is None else f"{certificate:.2f}",
        ]


def assumptions(content: Content) -> str:
    """What a prediction assumes, in one sentence."""
    assumed = content["assumed"]
    return (
        f"PREDICTED, not measured: an operation takes {1e6 * assumed['launch_seconds']:g} µs a launch, or "
        "longer by its operations or bytes at the card's rates; systems of a block take "
        f"{assumed['steps']} steps in {assumed['passes']} passes."
    )


def _counts(each: Content) -> list[str]:
    work = each["work"]
    operations = (work["float32"] + work["float64"]) / 1e9
    return [f"{each['launches']:,.0f}", f"{operations:,.0f}", f"{work['bytes'] / 1e9:.1f}"]


def _models(results: Results) -> str:
    content = results.content(PREDICTED)
    headings = model_headings([card["name"] for card in content["cards"]])
    text = markdown(headings, model_rows(content), left=2)
    return f"{text}\n\n{folded('How this was counted', source_line(content))}"


def _layers(results: Results) -> str:
    """Some large layers on the first card."""
    content = results.content(PREDICTED)
    shown = [each for each in content["layers"] if each["shape"] in SHOWN]
    rows = layer_rows({**content, "layers": shown}, content["cards"][0]["name"])
    return markdown(LAYER_HEADINGS, rows, left=3)


def _card_rows(results: Results) -> str:
    cards = results.content(PREDICTED)["cards"]
    headings = ["card", "float32, TFLOP/s", "float64, TFLOP/s", "TB/s", "rates from"]
    rows = [
        [
            card["name"],
            *(f"{card[rate] / 1e12:.1f}" for rate in ("float32", "float64")),
            f"{card['bandwidth'] / 1e12:.2f}",
            card["source"],
        ]
        for card in cards
    ]
    return markdown(headings, rows)


def _measured(results: Results) -> str:
    content = results.content(MEASURED)
    text = markdown(MEASURED_HEADINGS, measured_rows(content), left=3)
    return f"{text}\n\n{folded('How this was measured', source_line(content))}"


GPU = Page(
    "gpu",
    "What does pruning take on a GPU?",
    {
        "gpu models": _models,
        "gpu layers": _layers,
        "gpu cards": _card_rows,
        "gpu measured": _measured,
    },
)
