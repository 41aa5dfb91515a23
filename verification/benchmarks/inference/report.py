"""The page of an inference.json: answers first, then the tables that they come from."""

from typing import Any

from verification.benchmarks.pages.tables import markdown

LAYER_HEADINGS = ["layer", "pattern", "tokens", "nn.Linear ms", "compact ms", "time, compact / nn.Linear",
                  "95 % interval", "bytes", "verdict"]  # fmt: skip
MODEL_HEADINGS = ["pattern", "runs as", "prefill ms", "of dense", "decode ms a token", "of dense",
                  "weights MiB", "peak MiB"]  # fmt: skip
SIZE_HEADINGS = ["pattern", "packed in", "folder MB, dense", "packed", "of dense", "pruned weights, 32 bits",
                 "16 bits", "as bitmask, 16 bits"]  # fmt: skip
LARGE = 2**22  # weights of a layer that counts as large: 2048 x 2048


def page(results: dict[str, Any]) -> str:
    """Markdown, from the results alone."""
    lines = [
        "# Pruned models at work",
        "",
        "How fast is a pruned model, how much memory does it take, how small is it? What the forms",
        "are: [forms](../forms.md).",
        "",
        *answers(results),
        "",
        "![Size and time of every form](inference.png)",
        "",
        "## Single layers, float32",
        "",
        markdown(LAYER_HEADINGS, layer_rows(results), left=2),
        "",
        "Medians of repeats that take turns, with quartiles in brackets. Copies of each layer take turns",
        f"too, {results['settings']['turn_bytes'] / 2**20:.0f} MiB of them, so that weights come from memory. "
        "A layer is called faster or slower only",
        "where the 95 % interval of the median ratio leaves out 1.",
        "",
        f"## {results['settings']['model']}",
        "",
        markdown(MODEL_HEADINGS, model_rows(results), left=2),
        "",
        "Prefill reads {prompt} tokens; then {tokens} tokens are decoded one by one with a cache. "
        .format(**results["settings"])
        + f"{results['settings']['rounds']} rounds of all",
        "models in turns; ratios are taken round by round. Weights are all parameters and buffers; peak is",
        "the memory of a process that runs this model alone, Python and PyTorch included, after loading.",
        "Control: the dense model against itself: " + _control(results["control"]) + ".",
        "",
        "## Bytes",
        "",
        markdown(SIZE_HEADINGS, size_rows(results), left=2),
        "",
        "A folder is all its files: embeddings, which are not pruned, tokenizer, masks and records too.",
        "Pruned weights are the layers alone, as shares of their dense bytes, by the formulas of",
        "[forms](../forms.md); in 32 bits they are what the packed files hold, to the byte.",
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
    for run in results["runs"]:
        pattern, form = run["run"]["pattern"], run["run"]["form"]
        if pattern:
            how = f"{pattern}, {_form(form)}"
            spans = [
                f"{what} takes {_ratio(run['latency'][key]['ratio'])} of the dense time"
                f"{_verdict(run['latency'][key]['ratio'])}"
                for what, key in (("prefill", "prefill"), ("decoding", "decode"))
            ]
            found.append(f"- **{how}**: {', '.join(spans)}.")
    for run in _packed(results):
        dense, packed = run["sizes"]["disk"]["total"]
        found.append(
            f"- **{run['run']['pattern']} on the disk**: {packed / dense:.1%} of the pruned checkpoint"
            f" as {', '.join(run['sizes']['forms'])}."
        )
    return found


def layer_rows(results: dict[str, Any]) -> list[list[str]]:
    """One for each layer and number of tokens, as in LAYER_HEADINGS."""
    return [
        [
            "{} x {}".format(*each["shape"]),
            each["pattern"],
            str(each["tokens"]),
            _spread(each["dense"]),
            _spread(each["compact"]),
            _ratio(each["ratio"]),
            _interval(each["ratio"]),
            f"{each['bytes']['compact'] / each['bytes']['dense']:.1%}",
            each["ratio"]["verdict"],
        ]
        for each in results["layers"]
    ]


def model_rows(results: dict[str, Any]) -> list[list[str]]:
    """One for each way to run the model, as in MODEL_HEADINGS."""
    return [
        [
            run["run"]["pattern"] or "not pruned",
            _form(run["run"]["form"]) if run["run"]["pattern"] else "dense",
            _spread(run["latency"]["prefill"]),
            _ratio(run["latency"]["prefill"]["ratio"]),
            _spread(run["latency"]["decode"]),
            _ratio(run["latency"]["decode"]["ratio"]),
            f"{run['memory']['model_bytes'] / 2**20:.0f}",
            f"{run['memory']['working_peak_bytes'] / 2**20:.0f}",
        ]
        for run in results["runs"]
    ]


def size_rows(results: dict[str, Any]) -> list[list[str]]:
    """One for each pruned checkpoint, as in SIZE_HEADINGS."""
    rows = []
    for run in _packed(results):
        sizes = run["sizes"]
        dense, packed = sizes["disk"]["total"]
        by_form = sizes["formulas"]
        best = min((form for form in by_form if form != "dense"), key=lambda f: by_form[f]["4"])
        rows.append(
            [
                run["run"]["pattern"],
                ", ".join(sizes["forms"]),
                f"{dense / 1e6:.1f}",
                f"{packed / 1e6:.1f}",
                f"{packed / dense:.1%}",
                *(f"{by_form[best][bits] / by_form['dense'][bits]:.2%}" for bits in ("4", "2")),
                f"{by_form['bitmask']['2'] / by_form['dense']['2']:.2%}",
            ]
        )
    return rows


def source(results: dict[str, Any]) -> str:
    """Which command made the numbers, and where."""
    return (
        f"Measured by `{results['command']}` at commit {results['commit']} on {results['machine']}, "
        f"torch {results['versions']['torch']}, {results['settings']['threads']} threads, "
        f"{results['date'][:10]}: {results['wall_seconds'] / 60:.1f} minutes."
    )


def _layer_answer(layers: list[dict[str, Any]]) -> str:
    ratios = [each["ratio"]["median"] for each in layers]
    fast = [each for each in layers if each["ratio"]["verdict"] == "faster"]
    others = "; ".join(
        "{} x {} at {} tokens, {}: {}".format(
            *each["shape"], each["tokens"], each["pattern"], each["ratio"]["verdict"]
        ).replace(" 1 tokens", " 1 token")
        for each in layers
        if each not in fast
    )
    said = (
        f"the compact layer is faster than nn.Linear in {len(fast)} of {len(layers)} cases, "
        f"in {min(ratios):.2f} to {max(ratios):.2f} of its time"
    )
    return f"{said}. **Not faster**: {others}." if others else f"{said}."


def _packed(results: dict[str, Any]) -> list[dict[str, Any]]:
    """One run for each pattern: variants share their sizes."""
    found = {run["run"]["pattern"]: run for run in results["runs"] if "sizes" in run}
    return list(found.values())


def _form(form: str) -> str:
    return "zeros in place" if form == "dense" else form


def _control(control: dict[str, Any]) -> str:
    return ", ".join(
        f"{what} {_ratio(control[what]['ratio'])} "
        f"({_interval(control[what]['ratio'])}: {control[what]['ratio']['verdict']})"
        for what in ("prefill", "decode")
    )


def _verdict(ratio: dict[str, Any]) -> str:
    return "" if ratio["verdict"] == "faster" else f" (**{ratio['verdict']}**)"


def _ratio(ratio: dict[str, Any]) -> str:
    return f"{ratio['median']:.2f}"


def _interval(ratio: dict[str, Any]) -> str:
    return "{:.2f} to {:.2f}".format(*ratio["interval"]) if ratio["interval"] else "too few"


def _spread(seconds: dict[str, Any]) -> str:
    low, high = (1000 * each for each in seconds["quartiles"])
    return f"{1000 * seconds['median']:.3g} ({low:.3g} to {high:.3g})"


def _weights(layer: dict[str, Any]) -> int:
    rows, columns = layer["shape"]
    return int(rows * columns)
