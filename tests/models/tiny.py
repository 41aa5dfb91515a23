"""Tiny random models of several architectures, a tokenizer, and Gram matrices by plain hooks."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MixtralConfig,
    OPTConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)

WORDS = 256  # one token a byte
BLOCK_SIZE = 8


def llama_config(**changes: Any) -> LlamaConfig:
    """Three blocks; no layer is square but q_proj and o_proj."""
    sizes: dict[str, Any] = {
        "vocab_size": WORDS,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    }
    return LlamaConfig(**(sizes | changes))


def configs() -> dict[str, PreTrainedConfig]:
    """Architectures that differ in how they call their decoder blocks."""
    return {
        "llama": llama_config(),
        "opt": OPTConfig(
            vocab_size=WORDS,
            hidden_size=16,
            ffn_dim=24,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=64,
            word_embed_proj_dim=8,
        ),
        "gpt-neox": GPTNeoXConfig(
            vocab_size=WORDS,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=64,
        ),
        # Its first block sees four tokens back, its second all, with other rotations.
        "gemma3": Gemma3TextConfig(
            vocab_size=WORDS,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            sliding_window=4,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            max_position_embeddings=64,
        ),
        "mixtral": MixtralConfig(
            vocab_size=WORDS,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            num_local_experts=4,
            max_position_embeddings=64,
        ),
    }


def conv1d_config() -> GPT2Config:
    """GPT-2 has Conv1D layers where others have linear ones."""
    return GPT2Config(vocab_size=WORDS, n_embd=16, n_layer=2, n_head=2, n_positions=64)


def random_model(config: PreTrainedConfig, dtype: torch.dtype = torch.float32) -> Any:
    """A causal language model with random weights, the same for the same config."""
    torch.manual_seed(0)
    build: Any = AutoModelForCausalLM  # whose methods lack type hints
    model = build.from_config(config, dtype=dtype).eval()
    with torch.no_grad():
        for weight in model.parameters():  # fresh weights are too small to change what comes after
            if weight.dim() > 1:
                weight.normal_(std=0.3)
    return model


def random_windows(count: int = 6, seqlen: int = 32) -> Tensor:
    """Token ids, (count, seqlen)."""
    return torch.randint(WORDS, (count, seqlen), generator=torch.Generator().manual_seed(1))


def byte_tokenizer() -> Any:
    """One token a byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(vocab={byte: number for number, byte in enumerate(alphabet)}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    build: Any = PreTrainedTokenizerFast
    return build(tokenizer_object=tokenizer)


def save_checkpoint(model: Any, folder: Path) -> Path:
    """A checkpoint folder as a user may have one."""
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@torch.no_grad()
def grams_by_hooks(model: nn.Module, windows: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
    """X Xᵀ of some layers' inputs in a plain forward pass of the whole model, window by window."""
    grams: dict[str, Tensor] = {}

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def look(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
            tokens = args[0].reshape(-1, args[0].shape[-1]).double()  # (tokens, b)
            grams[name] = grams.get(name, 0) + tokens.T @ tokens

        return look

    handles = [model.get_submodule(name).register_forward_pre_hook(hook(name)) for name in layers]
    for window in windows:
        model(window[None])
    for handle in handles:
        handle.remove()
    return grams
