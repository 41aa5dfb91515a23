"""Encoder-decoders, and decoders cut out of them, are refused by every door with one reason."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import transformers as hf

from tests.models import tiny
from tests.models.conftest import SMALL, Thanos
from thanos_torch.models import load_model, perplexity, prune_model, stream_model

WHY = "reads what an encoder makes of another text, image or sound"
WHOLE = "is an encoder-decoder: its decoder"
PART = "is the decoder of an encoder-decoder: its"
BART: dict[str, Any] = {
    "vocab_size": 256, "d_model": 16, "encoder_layers": 1, "decoder_layers": 2,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24, "max_position_embeddings": 64, "pad_token_id": 0,
    "decoder_start_token_id": 1,
}  # fmt: skip
BERT: dict[str, Any] = {
    "vocab_size": 256, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
DECODER = {"is_decoder": True, "add_cross_attention": True}


def t5() -> Any:
    sizes = {"vocab_size": 256, "d_model": 16, "d_ff": 24, "d_kv": 8, "num_layers": 2}
    return hf.T5ForConditionalGeneration(hf.T5Config(**sizes, num_heads=2))


def of_images() -> Any:
    tower = hf.ViTConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        image_size=28, patch_size=14,
    )  # fmt: skip
    both = hf.VisionEncoderDecoderConfig.from_encoder_decoder_configs(tower, hf.BertConfig(**BERT))
    return hf.VisionEncoderDecoderModel(both)


ENCODERS: dict[str, tuple[Callable[[], Any], str]] = {
    "T5": (t5, WHOLE),
    "BART": (lambda: hf.BartForConditionalGeneration(hf.BartConfig(**BART)), WHOLE),
    "images": (of_images, WHOLE),
    "Marian's decoder": (lambda: hf.MarianForCausalLM(hf.MarianConfig(**BART)), PART),
    "BERT's decoder": (lambda: hf.BertLMHeadModel(hf.BertConfig(**BERT, **DECODER)), PART),
}


@pytest.mark.parametrize("case", ENCODERS)
def test_every_door_refuses_with_one_reason(thanos: Thanos, tmp_path: Path, case: str) -> None:
    make, reason = ENCODERS[case]
    model = make().eval()
    dense = tiny.save_checkpoint(model, tmp_path / "dense")
    with pytest.raises(ValueError) as error:  # noqa: PT011, the message is compared below
        prune_model(model, tiny.random_windows(2, 16), "2:4")
    message = str(error.value)
    assert message.startswith(f"{type(model).__name__} {reason}")
    assert WHY in message
    with pytest.raises(ValueError) as other:  # noqa: PT011, the message is compared below
        perplexity(model, tiny.random_windows(2, 16))
    assert str(other.value) == message

    prune = ("prune", dense, "--pattern", "2:4", *SMALL)
    evaluate = ("eval", dense, "--dataset", tiny.TEXT, "--seqlen", 16, "--max-windows", 2)
    for command in ((*prune, "--dry-run"), (*prune, "--out", tmp_path / "out"), evaluate):
        done = thanos(*command)
        assert (done.status, done.out) == (1, "")
        assert done.err.endswith(message)
    assert [path.name for path in tmp_path.iterdir()] == ["dense"]
    for load in (load_model, stream_model) if reason == WHOLE else ():
        with pytest.raises(ValueError, match=WHOLE):
            load(str(dense))


def test_a_decoder_without_cross_attention_is_pruned() -> None:
    config = hf.BertConfig(**BERT, is_decoder=True)
    assert tiny.prune(tiny.random_model(config)).verified


def test_nothing_is_downloaded_for_an_encoder_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    monkeypatch.setattr(hf.AutoConfig, "from_pretrained", lambda *_, **__: hf.T5Config())
    with pytest.raises(ValueError, match=f"t5 {WHOLE}"):
        load_model("someone/t5")
