"""The class of a model is chosen from its config, and its parameters are counted once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers as hf
from safetensors.torch import load_file, save_file

from tests.models import tiny
from tests.models.checkpoint.test_loading import write_gguf
from tests.models.observed import mllama_model, zamba2
from tests.models.towers import TOWERED
from thanos_torch.checkpoint.model_class import model_class
from thanos_torch.models import load_model, stream_model


def named(config: Any, *architectures: str, **code: str) -> Any:
    config.architectures = list(architectures)
    config.auto_map = code
    return config


CAUSAL, IMAGES = "AutoModelForCausalLM", "AutoModelForImageTextToText"
MLLAMA = mllama_model().config
CHOSEN: dict[str, tuple[Callable[[], Any], bool, str]] = {
    "text": (lambda: named(tiny.llama_config()), False, CAUSAL),
    "other architecture": (lambda: named(hf.BertConfig(), "BertForMaskedLM"), False, CAUSAL),
    "images": (lambda: named(TOWERED["Llava"].config()), False, IMAGES),
    "sound": (lambda: named(TOWERED["Voxtral"].config()), False, "AutoModelForMultimodalLM"),
    "all of two": (
        lambda: named(MLLAMA, "MllamaForConditionalGeneration"), False, IMAGES
    ),
    "the text part of two": (lambda: named(MLLAMA, "MllamaForCausalLM"), False, CAUSAL),
    "trusted code": (
        lambda: named(tiny.llama_config(), **{IMAGES: "own.Model"}), True, IMAGES
    ),
    "code that is not trusted": (
        lambda: named(tiny.llama_config(), **{IMAGES: "own.Model"}), False, CAUSAL
    ),
    "code without a class of text": (
        lambda: named(hf.ViTConfig(), "Own", AutoModel="own.Model"), True, "AutoModel"
    ),
    "registered nowhere": (
        lambda: named(hf.MusicgenDecoderConfig(), "MusicgenForCausalLM"), False,
        "MusicgenForCausalLM",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CHOSEN)
def test_the_class_is_chosen_from_the_config(case: str) -> None:
    make, trusted, expected = CHOSEN[case]
    assert model_class(make(), trusted).__name__ == expected


@pytest.mark.parametrize("kind", ["ViTForImageClassification", "ViTModel"])
def test_what_writes_no_text(kind: str) -> None:
    message = f"{kind} is no language model: for its type vit Transformers has none under AutoModel"
    with pytest.raises(ValueError, match=message):
        model_class(named(hf.ViTConfig(), kind), False)


def tied(folder: Path) -> Path:
    return tiny.save_checkpoint(
        tiny.random_model(tiny.llama_config(tie_word_embeddings=True)), folder
    )


def with_head(folder: Path, change: float) -> Path:
    """A checkpoint that holds both of two tied weights, which differ by `change`."""
    file = tied(folder) / "model.safetensors"
    weights = load_file(file)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] + change
    save_file(weights, file, {"format": "pt"})
    return folder


def gguf(folder: Path) -> Path:
    folder.mkdir()
    write_gguf(folder / "tiny.gguf")
    return folder / "tiny.gguf"


def saved(config: Any) -> Callable[[Path], Path]:
    return lambda folder: tiny.save_checkpoint(tiny.random_model(config), folder)


COUNTED: dict[str, Callable[[Path], Path]] = {
    "untied": saved(tiny.llama_config()),
    "tied": tied,
    "tied, and both are there": lambda folder: with_head(folder, 0.0),
    "said to be tied, but they differ": lambda folder: with_head(folder, 1.0),
    "blocks share weights": saved(zamba2()),
    "images": lambda folder: tiny.save_checkpoint(TOWERED["Gemma 3"].model(), folder),
    "GGUF": gguf,
}


@pytest.mark.parametrize("case", COUNTED)
def test_parameters_are_counted_as_transformers_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path / "cache"))
    source = str(COUNTED[case](tmp_path / "model"))
    loaded, (streamed, _) = load_model(source), stream_model(source)
    expected = loaded.model.num_parameters()
    assert loaded.provenance()["parameters"] == expected
    assert streamed.provenance()["parameters"] == expected
