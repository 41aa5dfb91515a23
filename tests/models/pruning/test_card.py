"""The model card: made from the record alone, and enough to do it again."""

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.models import tiny
from tests.models.conftest import SMALL, Thanos
from thanos_torch.models import RECORD, base_licence, base_model, model_card, read_recipe
from thanos_torch.runtime.strangers import printable

RECIPE = """
pattern = "1:4"
block_size = 8
adaptive = false
[[rules]]
layers = ["*.up_proj", "*.down_proj"]
pattern = "unstructured:0.6"
method = "wanda"
adaptive = true
[[rules]]
layers = "*.gate_proj"
metric = "magnitude"
[[rules]]
layers = "*.0.*"
pattern = "dense"
"""
CARD = "---\nlicense: apache-2.0\n---\n# A model\n"


def test_the_card_says_what_was_done_and_how_to_do_it_again(thanos: Thanos, tmp_path: Path) -> None:
    dense = tiny.save_checkpoint(tiny.random_model(tiny.llama_config()), tmp_path / "dense")
    (dense / "README.md").write_text(CARD)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    out = tmp_path / "out"
    options = ("--recipe", tmp_path / "recipe.toml", "--n-counts-zeros", "--exclude", "*.1.*k_*")
    assert thanos("prune", dense, *options, "--out", out, *SMALL).status == 0
    record = json.loads((out / RECORD).read_text())
    card = (out / "README.md").read_text()
    assert card == model_card(record)
    assert card.startswith("---\nlicense: apache-2.0\nlibrary_name: transformers\ntags:\n")
    assert (
        "| up_proj 24 x 16 | 2 | unstructured:0.6 | wanda | 8 | 0.01 | 0 | 56.25% | 2 of 2 |"
        in card
    )
    assert "| q_proj 16 x 16 | 1 | dense |  |  |  |  | 0.00% | as asked |" in card
    assert "| gate_proj 24 x 16 | 2 | 1:4 | thanos, adaptive=false, metric=magnitude | 8 |" in card
    assert "9 of 13 layers are **not** pruned by the paper's algorithm" in card
    assert "switches of an ablation: `adaptive=false`, `metric=magnitude`." in card
    assert "13 of 13 pruned layers passed" in card
    assert "4 windows of 32 tokens" in card
    assert "--exclude '*.1.*k_*'" in card
    assert base_licence(str(out)) == "apache-2.0"

    again = tmp_path / "again.toml"
    again.write_text(textwrap.dedent(card.partition("with this recipe.toml:\n\n")[2]))
    asked = record["settings"]["asked"]
    assert read_recipe(again, {}).as_dict() == {**asked, "exclude": []}


def test_the_card_of_one_pattern_repeats_its_switches(thanos: Thanos, tmp_path: Path) -> None:
    dense = tiny.save_checkpoint(tiny.random_model(tiny.llama_config()), tmp_path / "dense")
    asked = ("--pattern", "2:4", "--ablation", "adaptive=false", "--ablation", "metric=obs")
    done = thanos("prune", dense, *asked, "--out", tmp_path / "out", *SMALL)
    assert done.status == 0, done.err
    assert "thanos, 2:4 (2 zeros in every 4), adaptive=false, metric=obs: check" in done.out
    card = (tmp_path / "out" / "README.md").read_text()
    assert "--refit 0 --ablation adaptive=false --ablation metric=obs" in card
    assert "21 of 21 layers are **not** pruned by the paper's algorithm" in card


@pytest.mark.parametrize(
    ("card", "licence"),
    [(CARD, "apache-2.0"), ("# No front matter\n", None), ("---\nlicense: [\n---\n", None)],
)
def test_the_licence_comes_from_the_card(tmp_path: Path, card: str, licence: str | None) -> None:
    assert base_licence(str(tmp_path)) is None
    (tmp_path / "README.md").write_text(card)
    assert base_licence(str(tmp_path)) == licence
    assert base_licence("smollm2-135m") == "apache-2.0"


def record_of(thanos: Thanos, tmp_path: Path) -> dict[str, Any]:
    dense = tiny.save_checkpoint(tiny.random_model(tiny.llama_config()), tmp_path / "dense")
    assert thanos("prune", dense, "--pattern", "2:4", "--out", tmp_path / "out", *SMALL).status == 0
    found: dict[str, Any] = json.loads((tmp_path / "out" / RECORD).read_text())
    return found


FORGERS = [
    "mit\nbase_model: google/gemma\n---\n# Owned",
    "mit\r\ntags: [a]",
    'mit" # "',
    "no",
    "[a, b]",
    "{a: b}",
    "\x1b[2J\u2028x",
    "<script>alert(1)</script> | x | [a](http://b) `c`",
    "Lizenz für 😀",
]


@pytest.fixture(scope="module")
def record(thanos_once: Thanos, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return record_of(thanos_once, tmp_path_factory.mktemp("card"))


@pytest.mark.parametrize("text", FORGERS)
@pytest.mark.parametrize("field", ["licence", "base_model", "source", "origin"])
def test_no_text_of_a_stranger_forges_the_card(
    record: dict[str, Any], field: str, text: str
) -> None:
    model = {**record["model"], "source": "owner/name", "base_model": ["owner/name"]}
    plain = model_card({**record, "model": {**model, "licence": "mit"}})
    model[field] = [text] if field == "base_model" else text
    card = model_card({**record, "model": model})
    front = yaml.safe_load(card.split("---\n")[1])
    assert card.startswith("---\n")
    assert front["tags"] == ["pruned", "thanos"]
    assert front.keys() <= {"base_model", "license", "library_name", "tags"}
    if field == "licence":
        assert front["license"] == printable(text)
    named = printable(text) if field == "base_model" else "owner/name"
    assert front["base_model"] == [named]
    assert card.count("\n") <= plain.count("\n")
    body = card.partition("\n---\n")[2].partition("## Once more")[0]
    assert "<script>" not in body.replace("\\<script\\>", "")
    assert all(line.isprintable() for line in card.split("\n"))


def test_a_command_with_the_end_of_a_line_in_a_path_stays_in_its_block(
    record: dict[str, Any],
) -> None:
    settings = {**record["settings"], "dataset": "a\n# Owned\n\x1b.txt"}
    card = model_card({**record, "settings": settings})
    again = card.partition("## Once more\n\n")[2]
    assert all(line.startswith("    ") and line.isprintable() for line in again.splitlines())


def test_a_licence_with_yaml_in_it_goes_through_the_command(thanos: Thanos, tmp_path: Path) -> None:
    dense = tiny.save_checkpoint(tiny.random_model(tiny.llama_config()), tmp_path / "dense")
    (dense / "README.md").write_text('---\nlicense: "mit\\nbase_model: a/b"\n---\n')
    assert thanos("prune", dense, "--pattern", "2:4", "--out", tmp_path / "out", *SMALL).status == 0
    card = (tmp_path / "out" / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front == {
        "license": "mit\\nbase_model: a/b",
        "library_name": "transformers",
        "tags": ["pruned", "thanos"],
    }


BASES = {
    "no card": ("", []),
    "one": ("base_model: owner/name", ["owner/name"]),
    "several": ("base_model:\n- owner/name\n- other/one", ["owner/name", "other/one"]),
    "a path": ("base_model: ./out/checkpoint-500", []),
    "an absolute path": ("base_model: /data/models/llama", []),
    "no name": ("base_model: 7", []),
    "nested": ("base_model:\n  a: b", []),
    "hostile": ('base_model: "owner/name\\nlicense: mit"', []),
}


@pytest.mark.parametrize("case", BASES)
def test_the_base_of_a_folder_is_what_its_card_says(tmp_path: Path, case: str) -> None:
    front, expected = BASES[case]
    if front:
        (tmp_path / "README.md").write_text(f"---\n{front}\n---\n# A model\n")
    (tmp_path / "config.json").write_text('{"_name_or_path": "somebody/else"}')
    assert base_model(str(tmp_path)) == expected


def test_the_base_of_a_hub_model_is_its_id(tmp_path: Path) -> None:
    assert base_model("owner/name") == ["owner/name"]
    assert base_model("smollm2-135m") == ["HuggingFaceTB/SmolLM2-135M-Instruct"]
    snapshot = tmp_path / "models--owner--a.name-1--b" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    assert base_model(str(snapshot)) == ["owner/a.name-1--b"]
