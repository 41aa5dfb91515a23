"""Tiny models that do what most do not: share keys, run blocks twice, use weights by themselves."""

from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn

from tests.models.families import FAMILIES, GROUPED, ROTATED

_SMALL: dict[str, Any] = {"vocab_size": 256, "hidden_size": 16, "num_hidden_layers": 2}
_SHARED: dict[str, Any] = {
    **GROUPED,
    "head_dim": 8,
    "num_hidden_layers": 4,
    "num_kv_shared_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "sliding_window": 4,
    "hidden_size_per_layer_input": 4,
    "vocab_size_per_layer_input": 256,
}


def gemma3n() -> Any:
    """Two blocks take keys and values of two earlier ones."""
    return hf.Gemma3nTextConfig(
        **_SHARED, laurel_rank=4, altup_num_inputs=3, activation_sparsity_pattern=[0.0] * 4
    )


def gemma4() -> Any:
    """As Gemma 3n."""
    return hf.Gemma4TextConfig(**_SHARED, global_head_dim=8, num_global_key_value_heads=2)


def xlm() -> Any:
    """Attentions and MLPs are two lists."""
    return hf.XLMConfig(
        vocab_size=256, emb_dim=16, n_layers=3, n_heads=2, max_position_embeddings=64,
        asm=False, causal=True, bos_index=1, eos_index=2, pad_index=0, unk_index=3, mask_index=5,
    )  # fmt: skip


def mamba() -> Any:
    """Multiplies by the weight of `dt_proj` without calling it."""
    return hf.MambaConfig(**_SMALL, state_size=4, expand=2, time_step_rank=4)


def zamba2() -> Any:
    """Three blocks share one transformer."""
    return hf.Zamba2Config(
        vocab_size=256, hidden_size=32, num_hidden_layers=4,
        layers_block_type=["mamba", "hybrid", "mamba", "hybrid"], mamba_d_state=8, mamba_headdim=8,
        mamba_ngroups=1, n_mamba_heads=8, intermediate_size=48, num_attention_heads=4,
        num_mem_blocks=1, adapter_rank=4, max_position_embeddings=64, chunk_size=16,
    )  # fmt: skip


def cpmant() -> Any:
    """Puts tokens of its own in front."""
    return hf.CpmAntConfig(
        vocab_size=256, hidden_size=16, num_attention_heads=2, dim_head=8, dim_ff=24,
        num_hidden_layers=2, prompt_types=3, prompt_length=4, segment_types=3,
        position_bias_num_buckets=8, position_bias_max_distance=32,
    )  # fmt: skip


def modern_bert_decoder() -> Any:
    """Its `get_decoder` returns the head."""
    return hf.ModernBertDecoderConfig(
        **_SMALL, intermediate_size=24, num_attention_heads=2, max_position_embeddings=64,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2,
    )  # fmt: skip


def mllama() -> Any:
    """Does not run its cross-attentions without an image."""
    text = {
        **GROUPED,
        "num_hidden_layers": 3,
        "cross_attention_layers": [1],
        "rope_parameters": ROTATED,
    }
    text.pop("head_dim")
    text["hidden_size"] = 16
    return hf.MllamaConfig(
        text_config=text,
        vision_config={
            "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_global_layers": 1, "attention_heads": 2, "image_size": 16, "patch_size": 8,
            "max_num_tiles": 1, "vision_output_dim": 32, "intermediate_layers_indices": [0],
            "supported_aspect_ratios": [[1, 1]],
        },
    )  # fmt: skip
