"""The page on bytes, from an inference.json: by pattern and form, with the speed beside them."""

from collections.abc import Iterator
from typing import Any

from verification.benchmarks.pages.inference import form_name, ratio_text, source, times_dense
from verification.benchmarks.pages.tables import markdown

HEADINGS = ["pattern", "stored as", "pruned weights, 32 bits", "16 bits", "folder MB", "of dense",
            "runs as", "in memory MiB", "prefill, of dense time", "decoding"]  # fmt: skip
EXACT = ["pattern", "stored as", "pruned weights, 32 bits, by formula", "measured in the files", "16 bits, by formula",
         "all weight files", "folder", "in memory"]  # fmt: skip


def page(results: dict[str, Any]) -> str:
    """Markdown, from the results alone."""
    return "\n".join(
        [
            "# How much smaller is the pruned model?",
            "",
            *answers(results),
            "",
            "![Bytes of every form](size.png)",
            "",
            markdown(HEADINGS, rows(results), left=2),
            "",
            "The same to the byte; before it, the dense model has "
            f"{_memory(results['runs'][0]):,} bytes in memory:",
            "",
            markdown(EXACT, exact_rows(results), left=2),
            "",
            f"`{results['settings']['model']}`. What a form is, and its formula: [forms](../forms.md).",
            "",
            "- *Pruned weights*: bytes of the layers that were pruned, by formula, against the same layers dense. In 32 bits",
            "  that is what the packed files hold, to the byte.",
            "- *Folder*: all files, measured: embeddings, which are not pruned, tokenizer and records too. The dense folder is counted",
            "  without `masks.safetensors`, which a checkpoint does not need to run. Only the form that `thanos pack` chooses was written.",
            "- *In memory*: parameters and buffers of the loaded model, measured. Forms that no kernel runs on this machine are unpacked",
            "  to dense weights when they are loaded: they save bytes to store and to send, and no time.",
            "- *Of dense time*: the median ratio to the model that was not pruned, and whether it is shown to differ from 1: see [inference](inference.md).",
            "- *All weight files*: with the weights that are not pruned, and headers.",
            "- The method hardly matters. All remove the same number of weights and leave weight files of the same size, except Wanda in",
            "  unstructured pruning: it rounds down in every row, so it may keep a little more, see [sweep](sweep.md). Outlier rows, which only",
            "  Thanos has, are a pattern of their own: in structured pruning the other rows lose more columns, and the layer about as many weights.",
            "",
            source(results),
        ]
    ) + "\n"  # fmt: skip


def answers(results: dict[str, Any]) -> list[str]:
    """The best form of every pattern, on the disk and in memory."""
    found = []
    not_pruned = _memory(results["runs"][0])
    for pattern, runs in _by_pattern(results).items():
        sizes = runs[0]["sizes"]
        dense, packed = _folders(sizes)
        form = _packed_form(sizes)
        layers = sizes["formulas"][form]["4"] / sizes["formulas"]["dense"]["4"]
        least = min(runs, key=_memory)
        speed = least["latency"]["decode"]["ratio"]
        found.append(
            f"- **{pattern}**: packed as {form}, the pruned layers take {layers:.1%} of their bytes and the folder "
            f"{packed / dense:.1%}; at work the weights take {_memory(least) / not_pruned:.1%} of the memory, and decoding "
            f"takes {times_dense(speed)}."
        )
    return found


def rows(results: dict[str, Any]) -> list[list[str]]:
    """One for every pattern and form, as in HEADINGS."""
    return [row for runs in _by_pattern(results).values() for row in _rows_of(runs)]


def _rows_of(runs: list[dict[str, Any]]) -> Iterator[list[str]]:
    sizes = runs[0]["sizes"]
    formulas, on_disk = sizes["formulas"], _folders(sizes)
    by_form = {run["run"]["form"]: run for run in runs}
    for form in formulas:
        shares = [formulas[form][bits] / formulas["dense"][bits] for bits in ("4", "2")]
        written = {"dense": on_disk[0], _packed_form(sizes): on_disk[1]}.get(form)
        folder = [f"{written / 1e6:.1f}", f"{written / on_disk[0]:.1%}"] if written else ["", ""]
        run = by_form.get(form)
        at_work = ["unpacked", "", "", ""]
        if run:
            latency = run["latency"]
            at_work = [
                form_name(form),
                f"{_memory(run) / 2**20:.0f}",
                *(ratio_text(latency[what]["ratio"]) for what in ("prefill", "decode")),
            ]
        yield [
            runs[0]["run"]["pattern"],
            form_name(form),
            *(f"{share:.2%}" for share in shares),
            *folder,
            *at_work,
        ]


def exact_rows(results: dict[str, Any]) -> list[list[str]]:
    """Bytes by formula and as measured, as in EXACT: a row for every pattern and form."""
    return [row for runs in _by_pattern(results).values() for row in _exact_rows_of(runs)]


def _exact_rows_of(runs: list[dict[str, Any]]) -> Iterator[list[str]]:
    sizes = runs[0]["sizes"]
    in_memory = {run["run"]["form"]: f"{_memory(run):,}" for run in runs}
    at = {"dense": 0, _packed_form(sizes): 1}  # where `disk` has what was written
    for form, formula in sizes["formulas"].items():
        written = ["", "", ""]
        if form in at:
            disk = {name: both[at[form]] for name, both in sizes["disk"].items()}
            weights = disk["pruned"] + disk["others"] + disk["headers"]
            each = (disk["pruned"], weights, _folders(sizes)[at[form]])
            written = [f"{count:,}" for count in each]
        yield [
            runs[0]["run"]["pattern"],
            form_name(form),
            f"{formula['4']:,}",
            written[0],
            f"{formula['2']:,}",
            *written[1:],
            in_memory.get(form, "unpacked"),
        ]


def _by_pattern(results: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for run in results["runs"]:
        if "sizes" in run:
            found.setdefault(run["run"]["pattern"], []).append(run)
    return found


def _folders(sizes: dict[str, Any]) -> tuple[int, int]:
    """Bytes of the dense folder, without its masks, and of the packed one, with what it has."""
    (dense, packed), (masks, _) = sizes["disk"]["total"], sizes["disk"]["masks"]
    return dense - masks, packed


def _packed_form(sizes: dict[str, Any]) -> str:
    """The form that layers were packed in: one, unless a checkpoint mixes patterns."""
    form = sizes["forms"][0]
    return str(form)


def _memory(run: dict[str, Any]) -> int:
    return int(run["memory"]["model_bytes"])
