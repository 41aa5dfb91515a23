"""docs/runtimes.md says of llama.cpp what was recorded."""

import json
from pathlib import Path
from typing import Any

from tests.runtimes.tools import CONVERTER, CONVERTER_SHA256, RUNTIME, VERSION

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "runtimes.md").read_text(encoding="utf-8")
RECORDED: dict[str, Any] = json.loads((DOCS / "results" / "llama-cpp.json").read_text())


def row(name: str) -> list[str]:
    """The cells of the row of a table that begins with `name`."""
    line = next(line for line in PAGE.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_the_pruned_model_is_the_same_in_llama_cpp() -> None:
    assert RECORDED["passed"]
    assert RECORDED["same_token_ids"]
    assert RECORDED["zeros"]["kept_zero"] == RECORDED["zeros"]["removed"] > 50_000_000
    assert RECORDED["zeros"]["differing"] == 0
    assert all(all(seen.values()) for seen in RECORDED["mistakes_seen"].values())
    assert len(RECORDED["mistakes_seen"]) == 2


def test_the_page_has_the_recorded_numbers() -> None:
    models = [RECORDED["models"][name] for name in ("dense", "pruned")]
    for name, key in (
        ("`thanos eval`, float32", "perplexity_thanos_eval"),
        ("the same, weights rounded to float16", "perplexity_f16_weights"),
        ("llama.cpp, F16", "perplexity_llama_cpp"),
    ):
        assert row(name) == [f"{model[key]:.3f}" for model in models]
    for name, key in (
        ("difference of a token's loss, root mean square, nats", "difference"),
        ("largest that passes", "limit"),
    ):
        assert row(name) == [f"{model[key]:.4f}" for model in models]
    zeros = RECORDED["zeros"]
    assert row("removed weights that are zero in the file") == [
        "",
        f"{zeros['kept_zero']:,} of {zeros['removed']:,}",
    ]


def test_the_page_names_the_versions_that_were_tried() -> None:
    assert CONVERTER in PAGE
    assert f"{RUNTIME}@{VERSION}" in PAGE
    assert f"llama.cpp {RECORDED['llama.cpp']}" in PAGE
    assert len(CONVERTER_SHA256) == 64
    assert RECORDED["converter"] == CONVERTER
    assert RECORDED["runtime"] == f"{RUNTIME} {VERSION}"
    assert RECORDED["commit"] in PAGE
    assert RECORDED["date"][:10] in PAGE
    assert RECORDED["machine"] in PAGE
