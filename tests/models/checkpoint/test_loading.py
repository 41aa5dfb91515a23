"""Models come from folders, GGUF files and hubs; what is no model is refused in one line."""

import json
from pathlib import Path
from typing import Any

import gguf
import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models import tiny
from thanos_torch.models import load_model, stream_model

# Names of a block's tensors in GGUF; q and k are left out because GGUF permutes their rows.
GGUF_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "blk.0.attn_norm": "model.layers.0.input_layernorm",
    "blk.0.attn_v": "model.layers.0.self_attn.v_proj",
    "blk.0.attn_output": "model.layers.0.self_attn.o_proj",
    "blk.0.ffn_norm": "model.layers.0.post_attention_layernorm",
    "blk.0.ffn_gate": "model.layers.0.mlp.gate_proj",
    "blk.0.ffn_up": "model.layers.0.mlp.up_proj",
    "blk.0.ffn_down": "model.layers.0.mlp.down_proj",
}
PERMUTED = {
    "blk.0.attn_q": "model.layers.0.self_attn.q_proj",
    "blk.0.attn_k": "model.layers.0.self_attn.k_proj",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.save_checkpoint(tiny.random_model(tiny.llama_config()), tmp_path / "model")


def write_gguf(file: Path) -> dict[str, np.ndarray[Any, Any]]:
    """A one-block Llama, matrices in Q4_1; returns the tensors that its reader should see."""
    config = tiny.llama_config(
        num_hidden_layers=1, hidden_size=32, intermediate_size=64, vocab_size=tiny.WORDS + 1
    )
    weights = tiny.random_model(config).state_dict()
    words = sorted((n, word) for word, n in tiny.byte_tokenizer().get_vocab().items())
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([*(word for _, word in words), "xy"])
    writer.add_token_merges(["x y"])  # the reader wants one at least
    expected = {}
    for name, torch_name in (GGUF_NAMES | PERMUTED).items():
        tensor = weights[f"{torch_name}.weight"].numpy()
        kind = gguf.GGMLQuantizationType.F32 if tensor.ndim == 1 else gguf.GGMLQuantizationType.Q4_1
        packed = gguf.quants.quantize(tensor, kind)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=kind)
        if name not in PERMUTED:
            expected[f"{torch_name}.weight"] = gguf.quants.dequantize(packed, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def test_a_gguf_file_is_dequantised_and_can_be_saved(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    expected = write_gguf(tmp_path / "tiny.Q4_1.gguf")
    loaded = load_model(str(tmp_path / "tiny.Q4_1.gguf"))
    assert capfd.readouterr() == ("", "")
    assert loaded.origin == "tiny.Q4_1.gguf, dequantised"
    weights = loaded.model.state_dict()
    for name, tensor in expected.items():
        assert torch.equal(weights[name], torch.from_numpy(tensor)), name
    assert loaded.tokenizer("cab")["input_ids"] == tiny.byte_tokenizer()("cab")["input_ids"]
    loaded.model.save_pretrained(tmp_path / "saved")  # which Transformers refuses for a GGUF model
    assert "quantization_config" not in json.loads((tmp_path / "saved/config.json").read_text())


def test_a_gguf_file_is_streamed_from_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path / "cache"))
    write_gguf(tmp_path / "tiny.Q4_1.gguf")
    loaded, streamed = stream_model(str(tmp_path / "tiny.Q4_1.gguf"))
    assert loaded.origin == "tiny.Q4_1.gguf, dequantised"
    assert streamed.folder.parent == tmp_path / "cache"
    streamed.load_block(0)
    held = load_model(str(tmp_path / "tiny.Q4_1.gguf")).model.state_dict()
    for name, tensor in streamed.block_state(0).items():
        assert torch.equal(tensor, held[name]), name
    before = (streamed.folder / "model.safetensors").stat().st_mtime_ns
    _, again = stream_model(str(tmp_path / "tiny.Q4_1.gguf"))
    assert (again.folder / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_folder_keeps_its_dtype(tmp_path: Path, dtype: torch.dtype) -> None:
    model = tiny.random_model(tiny.llama_config(), dtype)
    loaded = load_model(str(tiny.save_checkpoint(model, tmp_path)))
    assert not loaded.model.training
    assert loaded.config_file == tmp_path / "config.json"
    assert loaded.provenance() == {
        "source": str(tmp_path),
        "origin": f"checkpoint folder {tmp_path.name}",
        "architecture": "LlamaForCausalLM",
        "dtype": str(dtype).removeprefix("torch."),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "commit": None,
    }
    assert all(
        torch.equal(tensor, loaded.model.state_dict()[name])
        for name, tensor in model.state_dict().items()
    )


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is no checkpoint: it has no config.json"):
        load_model(str(tmp_path))


def test_a_checkpoint_that_lacks_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks weights: model.layers.1.mlp.up_proj.weight$"):
        load_model(str(folder))


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_broken_checkpoint(folder: Path, file: str) -> None:
    (folder / file).write_bytes((folder / file).read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model '.*' could not be loaded: .") as caught:
        load_model(str(folder))
    assert "\n" not in str(caught.value)


def test_a_broken_gguf_file(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF but not really")
    with pytest.raises(ValueError, match=r"model '.*bad.gguf' could not be loaded: ."):
        load_model(str(tmp_path / "bad.gguf"))


@pytest.mark.parametrize("source", ["./nowhere", "/nowhere/at-all", "~/nowhere"])
def test_a_path_that_leads_nowhere(source: str) -> None:
    with pytest.raises(ValueError, match=f"model {source}: there is no such file or folder"):
        load_model(source)


@pytest.mark.parametrize("source", ["gpt2", "a/b/c", ""])
def test_what_can_be_no_model(source: str) -> None:
    with pytest.raises(ValueError, match=r"model must be a hub id, .* got '.*'"):
        load_model(source)


def test_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="model must be a hub id"):
        load_model(str(tmp_path / "model.bin"))


def test_a_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"model 'no-one/no-model' could not be loaded: ."):
        load_model("no-one/no-model")
