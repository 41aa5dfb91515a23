"""Models whose perplexity would mean nothing are refused; causal ones of every kind are not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

from tests.evaluation.items import write_items
from tests.models import tiny
from tests.models.conftest import Thanos
from tests.models.families import FAMILIES
from tests.models.observed import mamba
from tests.models.towers import TOWERED
from thanos_torch.models import load_model, perplexity

NOTHING = "a perplexity or an accuracy in tasks would mean nothing"
BERT: dict[str, Any] = {
    "vocab_size": 256, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 2, "max_position_embeddings": 66,
}  # fmt: skip
QWEN: dict[str, Any] = {**BERT, "num_key_value_heads": 1, "tie_word_embeddings": True}
XLM: dict[str, Any] = {"vocab_size": 256, "emb_dim": 16, "n_layers": 2, "n_heads": 2}


def qwen() -> Any:
    return hf.Qwen2Config(**QWEN, pad_token_id=0)


MASKED = "is a masked language model, which reads the token that it predicts"
AHEAD = "looks ahead: what it predicts depends on the predicted token and on later ones"
# What is known of a saved model before its weights are read, by its class.
OTHER_CLASSES: dict[str, tuple[Callable[[], Any], str]] = {
    "masked": (lambda: hf.BertForMaskedLM(hf.BertConfig(**BERT)), MASKED),
    "reward": (lambda: hf.Qwen2ForSequenceClassification(qwen()), "is a classifier or a reward"),
    "headless": (lambda: hf.Qwen2Model(qwen()), "is a model without a language-model head"),
}


@pytest.mark.parametrize("case", OTHER_CLASSES)
def test_classes_that_predict_no_next_tokens(thanos: Thanos, tmp_path: Path, case: str) -> None:
    make, reason = OTHER_CLASSES[case]
    model = make().eval()
    folder = tiny.save_checkpoint(model, tmp_path / "model")
    message = f"{type(model).__name__} (architectures in config.json) {reason}"
    # Tied to the embedding, they have a head as language models.
    loaded = load_model(str(folder)).model if case != "masked" else model
    with pytest.raises(ValueError) as error:  # noqa: PT011, the message is compared below
        perplexity(loaded, tiny.random_windows())
    assert message in str(error.value)
    assert NOTHING in str(error.value)
    (folder / "model.safetensors").write_bytes(b"")  # it is refused before that is read
    done = thanos("eval", folder)
    assert (done.status, done.err) == (1, f"thanos: {error.value}")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "make",
    [
        lambda: hf.BertLMHeadModel(hf.BertConfig(**BERT)),
        lambda: hf.XLMWithLMHeadModel(hf.XLMConfig(**XLM)),
        lambda: TOWERED["PaliGemma"].model(),
    ],
    ids=["BERT", "XLM", "a prefix of all tokens"],
)
def test_models_that_look_ahead(make: Callable[[], Any], dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=AHEAD):
        perplexity(make().to(dtype).eval(), tiny.random_windows(2, 16) % 200)


CAUSAL: dict[str, Callable[[], Any]] = {
    "BERT": lambda: hf.BertConfig(**BERT, is_decoder=True),
    "XLM": lambda: hf.XLMConfig(**XLM, causal=True),
    "Mamba": mamba,
    "RecurrentGemma": lambda: hf.RecurrentGemmaConfig(
        **{**QWEN, "num_hidden_layers": 3}, attention_window_size=4, lru_width=16
    ),
    "Mixtral": lambda: hf.MixtralConfig(**QWEN, num_local_experts=4, num_experts_per_tok=2),
    "BLOOM": lambda: FAMILIES["BLOOM"].config,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CAUSAL)
def test_causal_models_of_every_kind(name: str, dtype: torch.dtype) -> None:
    # In bfloat16, with experts, two runs over different tokens differ in earlier logits.
    model = tiny.random_model(CAUSAL[name](), dtype)
    assert perplexity(model, tiny.random_windows(2, 16)).tokens == 30


def test_models_whose_operations_have_no_derivative() -> None:
    model = tiny.random_model(tiny.llama_config())
    expected = perplexity(model, tiny.random_windows(2, 16))
    with torch.inference_mode():  # which leaves weights that cannot be differentiated
        model.model.layers[0].mlp.down_proj.weight = torch.nn.Parameter(
            model.model.layers[0].mlp.down_proj.weight.clone()
        )
        assert perplexity(model, tiny.random_windows(2, 16)) == expected


@pytest.mark.long  # torch.compile takes seconds to import
def test_compiled_models_are_looked_into_as_they_were() -> None:
    model = tiny.random_model(tiny.llama_config())
    expected = perplexity(model, tiny.random_windows(2, 16))
    compiled: Any = torch.compile(model, backend="eager")
    assert perplexity(compiled, tiny.random_windows(2, 16)) == expected


def test_models_without_a_head() -> None:
    windows = tiny.random_windows(2, 16)
    few = hf.Qwen2ForTokenClassification(qwen()).eval()
    few.config.architectures = None
    with pytest.raises(ValueError, match=r"no language-model head: .* logits of the shape \(1, 16"):
        perplexity(few, windows)
    with pytest.raises(ValueError, match=r"no language-model head: .* returns no logits"):
        perplexity(tiny.random_model(tiny.llama_config()).model, windows)


def test_tasks_are_refused_too(thanos: Thanos, tmp_path: Path) -> None:
    model = hf.BertLMHeadModel(hf.BertConfig(**BERT))
    folder = tiny.save_checkpoint(model, tmp_path / "model")
    words = tiny.byte_tokenizer()
    words.eos_token = "a"
    words.save_pretrained(folder)
    items = write_items(tmp_path / "items")
    done = thanos("eval", folder, "--tasks", "piqa", "--task-data", items, "--limit", 1)
    assert done.status == 1
    assert AHEAD in done.err
