"""The BOS token in front of windows: which windows get it, what is recorded, who is warned."""

import json
import math
import re
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy
import pytest
import torch
from transformers import AutoConfig, Gemma3TextConfig, LlamaConfig

from tests.evaluation.items import write_items
from tests.models import tiny
from tests.models.conftest import SMALL, Thanos
from tests.test_imports import ROOT
from thanos_torch.evaluation import zero_shot
from thanos_torch.models import (
    RECORD,
    calibration_windows,
    evaluation_windows,
    load_model,
    perplexity,
    prune_model,
    stream_model,
)
from thanos_torch.text.bos import FAMILIES, BosWarning, needs_bos, note_family

BOS = tiny.WORDS
TEXT = "abcdefghijklmnopqrstuvwxyz"
GEMMA = Gemma3TextConfig(
    vocab_size=tiny.WORDS + 8,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=4,
    max_position_embeddings=256,
    sliding_window=16,
    bos_token_id=BOS,
    eos_token_id=None,
    pad_token_id=None,
)


@pytest.fixture
def alphabet(tmp_path: Path) -> str:
    file = tmp_path / "alphabet.txt"
    file.write_text(TEXT)
    return str(file)


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Gemma 3, whose tokenizer has a BOS token and adds none, as Gemma 4's."""
    folder = tmp_path_factory.mktemp("gemma") / "gemma"
    tiny.random_model(GEMMA).save_pretrained(folder)
    tiny.byte_tokenizer(bos=True, adds=False).save_pretrained(folder)
    return folder


def shown(ids: Any) -> list[str]:
    """Windows as text, with | for the BOS token."""
    tokenizer = tiny.byte_tokenizer(bos=True)
    return [tokenizer.decode(window).replace("<bos>", "|") for window in ids]


@pytest.mark.parametrize("adds", [True, False])
def test_how_windows_begin(alphabet: str, adds: bool) -> None:
    tokenizer = tiny.byte_tokenizer(bos=True, adds=adds)

    def cut(bos: Any, **options: Any) -> list[str]:
        return shown(evaluation_windows(tokenizer, alphabet, seqlen=9, bos=bos, **options).ids)

    assert cut("each") == ["|abcdefgh", "|ijklmnop", "|qrstuvwx"]
    assert cut("first") == ["|abcdefgh", "ijklmnopq", "rstuvwxyz"]
    assert cut("none") == ["abcdefghi", "jklmnopqr"]
    assert cut(None) == (cut("first") if adds else cut("none"))
    Path(alphabet).write_text(f"<bos><bos>{TEXT}")
    assert cut("each") == ["|abcdefgh", "|ijklmnop", "|qrstuvwx"]
    assert cut("first") == ["|abcdefgh", "ijklmnopq", "rstuvwxyz"]
    Path(alphabet).write_text(TEXT)
    assert cut("each", stride=3, limit=3) == ["|abcdefgh", "|ghijklmn", "|mnopqrst"]
    drawn = shown(
        calibration_windows(tokenizer, alphabet, nsamples=99, seqlen=9, seed=0, bos="each").ids
    )
    pieces = {f"|{TEXT[start : start + 8]}" for start in range(19)}
    assert set(drawn) == pieces


def test_what_is_recorded(alphabet: str) -> None:
    tokenizer = tiny.byte_tokenizer(bos=True)
    found = {
        bos: evaluation_windows(tokenizer, alphabet, seqlen=9, bos=bos).provenance()
        for bos in (None, "each", "first", "none")
    }
    assert [each["bos"] for each in found.values()] == ["tokenizer", "each", "first", "none"]
    assert [each["stride"] for each in found.values()] == [9, 8, 9, 9]
    assert found["each"]["tokens"] == 26
    assert len({each["windows_sha256"] for each in found.values()}) == 3


def test_all_but_the_bos_token_is_scored_once(gemma: Path, alphabet: str) -> None:
    loaded = load_model(str(gemma))
    windows = evaluation_windows(loaded.tokenizer, alphabet, seqlen=9)
    result = perplexity(loaded.model, windows.ids, stride=windows.origin["stride"])
    assert (result.tokens, result.stride) == (24, 8)
    losses = []
    with torch.no_grad():
        for start in (0, 8, 16):
            ids = torch.tensor([BOS, *loaded.tokenizer(TEXT)["input_ids"][start : start + 8]])
            odds = loaded.model(ids[None]).logits[0].double().log_softmax(-1)
            losses += [-odds[place - 1, ids[place]].item() for place in range(1, 9)]
    assert result.perplexity == pytest.approx(math.exp(sum(losses) / 24), rel=1e-5)
    # The same text with windows that overlap: each token once, too.
    overlapping = evaluation_windows(loaded.tokenizer, alphabet, seqlen=9, stride=3)
    assert perplexity(loaded.model, overlapping.ids, stride=3).tokens == 8 + 3 * 6


@pytest.mark.parametrize("stride", [None, 7, 3, 1])
@pytest.mark.parametrize("places", [(8,), (3, 8, 17), (16, 19), (18,), (7, 15, 24)])
def test_a_bos_token_of_the_text_gets_no_second_one(
    tmp_path: Path, places: tuple[int, ...], stride: int | None
) -> None:
    """As between conversations."""
    whole = "".join("|" if place in places else letter for place, letter in enumerate(TEXT))
    file, tokenizer = tmp_path / "text.txt", tiny.byte_tokenizer(bos=True)
    file.write_text(whole.replace("|", "<bos>"))
    cut = evaluation_windows(tokenizer, str(file), seqlen=9, stride=stride, bos="each")
    drawn = calibration_windows(tokenizer, str(file), nsamples=200, seqlen=9, seed=0, bos="each")
    for window in shown([*cut.ids, *drawn.ids]):
        assert window.startswith("|")
        assert not window.startswith("||")
        assert window[1:] in whole
    if stride is None:  # no letter is lost or read twice
        read = "".join(shown(cut.ids)).replace("|", "")
        assert whole.replace("|", "").startswith(read)
        assert len(TEXT) - len(places) - len(read) < 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bos": "all"}, "bos must be 'each' or 'first' or 'none' or None, got 'all'"),
        ({"bos": "each", "stride": 9}, "stride must be at most 8, .* begins with the BOS .*got 9"),
        ({"bos": "each", "stride": 0}, "stride must be between 1 and seqlen = 9, got 0"),
        ({"bos": "each", "seqlen": 1}, "seqlen must be at least 2 for windows with a BOS .* got 1"),
        ({"bos": "each", "seqlen": 28}, "has 26 tokens for evaluation, too few for one window"),
    ],
)
def test_refusals(alphabet: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluation_windows(tiny.byte_tokenizer(bos=True), alphabet, **({"seqlen": 9} | options))


@pytest.mark.parametrize("bos", ["each", "first"])
def test_a_tokenizer_without_a_bos_token(alphabet: str, bos: Literal["each", "first"]) -> None:
    message = f"bos '{bos}' needs a tokenizer with a BOS token, and this one has none"
    with pytest.raises(ValueError, match=message):
        evaluation_windows(tiny.byte_tokenizer(), alphabet, seqlen=9, bos=bos)
    plain = evaluation_windows(tiny.byte_tokenizer(), alphabet, seqlen=9, bos="none")
    assert torch.equal(plain.ids, evaluation_windows(tiny.byte_tokenizer(), alphabet, seqlen=9).ids)
    # A family that needs it, with a tokenizer that has none: the windows can be warned of alone.
    tokenizer = tiny.byte_tokenizer()
    note_family(tokenizer, GEMMA)
    assert evaluation_windows(tokenizer, alphabet, seqlen=9).origin["bos"] == "tokenizer"


def test_token_ids_are_taken_as_they_are(tmp_path: Path, gemma: Path) -> None:
    file = tmp_path / "ids.npy"
    numpy.save(file, numpy.arange(40))
    tokenizer = load_model(str(gemma)).tokenizer
    assert evaluation_windows(tokenizer, str(file), seqlen=8).ids.flatten().tolist() == [*range(40)]
    with pytest.raises(ValueError, match=r"bos is for texts, and .*ids.npy holds token ids"):
        evaluation_windows(tokenizer, str(file), seqlen=8, bos="none")


def test_the_default_fits_the_model(gemma: Path, dense: Path, alphabet: str) -> None:
    for load in (load_model, lambda source: stream_model(source)[0]):
        assert evaluation_windows(load(str(gemma)).tokenizer, alphabet, seqlen=9).origin["bos"] == (
            "each"
        )
        other = evaluation_windows(load(str(dense)).tokenizer, alphabet, seqlen=9)
        assert other.origin["bos"] == "tokenizer"


def test_the_page_lists_the_families_that_need_it() -> None:
    page = (ROOT / "docs" / "models.md").read_text()
    section = page.partition("## BOS")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\w[^|]*) \| [^|]* \| ((?:`\w+`(?:, )?)+) \|$", section, re.MULTILINE)
    listed = {name: tuple(re.findall(r"`(\w+)`", kinds)) for name, kinds in rows}
    assert listed == FAMILIES


def test_the_page_gives_the_recorded_perplexities() -> None:
    page = (ROOT / "docs" / "evaluation.md").read_text()
    results = json.loads((ROOT / "docs" / "results" / "bos.json").read_text())["evaluations"]
    each, none = (results[bos]["perplexity"] for bos in ("each", "none"))
    assert f"a perplexity of {each:.1f} on 40 windows" in page
    assert f"and of {none:.1f} with `--bos none`" in page
    assert all(results[bos]["text"]["bos"] == bos for bos in results)


@pytest.mark.parametrize("kind", [each for kinds in FAMILIES.values() for each in kinds])
def test_transformers_knows_these_families(kind: str) -> None:
    config = AutoConfig.for_model(kind)
    assert needs_bos(config)
    assert config.get_text_config().bos_token_id == 2
    assert not needs_bos(LlamaConfig())
    assert not needs_bos(None)


def test_python_functions_warn() -> None:
    model, windows = tiny.random_model(GEMMA), tiny.random_windows(3)
    windows[1:, 0] = BOS
    message = r"1 of 3 windows do not begin with the BOS token \(id 256\), which gemma3_text models"
    with pytest.warns(BosWarning, match=message):
        perplexity(model, windows)
    with pytest.warns(BosWarning, match=message):
        prune_model(model, windows, "2:4", judge=None)
    windows[:, 0] = BOS
    padded = torch.cat([torch.zeros(3, 4, dtype=torch.long), windows], dim=1)
    mask = torch.ones_like(padded)
    mask[:, :4] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        perplexity(model, windows)
        perplexity(model, padded, attention_mask=mask)
        perplexity(tiny.random_model(tiny.llama_config()), tiny.random_windows(3))


def test_prune_and_eval_by_command(thanos: Thanos, gemma: Path, tmp_path: Path) -> None:
    def prune(*options: object) -> tuple[str, dict[str, Any], str]:
        out = tmp_path / f"out{len([*tmp_path.iterdir()])}"
        done = thanos("prune", gemma, "--pattern", "2:4", "--out", out, *SMALL, *options)
        assert done.status == 0, done.err
        card = (out / "README.md").read_text()
        return done.out, json.loads((out / RECORD).read_text()), card

    said, record, card = prune()
    assert "Warning" not in said
    assert record["text"]["bos"] == "each"
    assert "bos" not in record["settings"]
    assert "BOS token: in front of each window" in card
    assert "--bos" not in card
    said, record, card = prune("--bos", "none")
    assert "Warning: 4 of 4 windows do not begin with the BOS token (id 256), which gemma" in said
    assert record["text"]["bos"] == record["settings"]["bos"] == "none"
    assert "BOS token: not added" in card
    assert "--bos none" in card

    file, found = tmp_path / "result.json", {}
    for options in ((), ("--bos", "first")):
        text = ("--dataset", tiny.TEXT, "--seqlen", 32, "--max-windows", 4)
        done = thanos("eval", gemma, *text, *options, "--json", file)
        assert done.status == 0, done.err
        record = json.loads(file.read_text())
        found[record["text"]["bos"]] = (record["stride"], "Warning: 3 of 4" in done.out)
        assert f"BOS: {record['text']['bos']}" in done.out
    assert found == {"each": (31, False), "first": (32, True)}
    assert thanos("eval", gemma, "--bos", "all").status == 2


@pytest.mark.parametrize("adds", [True, False])
def test_prompts_of_tasks_begin_with_it(tmp_path: Path, adds: bool) -> None:
    folder = write_items(tmp_path)
    model = tiny.random_model(GEMMA)
    read: list[list[int]] = []
    model.register_forward_pre_hook(lambda module, args: read.extend(args[0].tolist()))

    def begin(tokenizer: Any, bos: Any = None) -> tuple[str, set[int]]:
        read.clear()
        found = zero_shot(model, tokenizer, ["piqa"], data=folder, limit=1, batch_size=1, bos=bos)
        assert found.as_dict()["bos"] == found.bos
        return found.bos, {ids.count(BOS) if ids[0] == BOS else -ids.count(BOS) for ids in read}

    tokenizer = tiny.byte_tokenizer(bos=True, adds=adds)
    assert begin(tokenizer) == ("tokenizer", {int(adds)})
    assert begin(tokenizer, "none") == ("none", {0})
    assert begin(tokenizer, "first") == ("first", {1})
    note_family(tokenizer, GEMMA)
    assert begin(tokenizer) == ("each", {1})
