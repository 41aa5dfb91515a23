"""Tiny models of the supported families, two decoder blocks each, and the layers pruned in them."""

from dataclasses import dataclass
from typing import Any

import transformers as hf

# The layers of one decoder block of each family, by name, with their shapes (c, b). No two sizes
# are equal, but where the architecture wants it: attention is as wide as the model in OPT, GPT-2,
# GPT-NeoX, BLOOM and Falcon.
Shapes = dict[str, tuple[int, int]]

GROUPED_ATTENTION: Shapes = {
    "self_attn.q_proj": (24, 20),
    "self_attn.k_proj": (12, 20),
    "self_attn.v_proj": (12, 20),
    "self_attn.o_proj": (20, 24),
}
LLAMA: Shapes = {
    **GROUPED_ATTENTION,
    "mlp.gate_proj": (28, 20),
    "mlp.up_proj": (28, 20),
    "mlp.down_proj": (20, 28),
}
PHI3: Shapes = {
    "self_attn.qkv_proj": (48, 20),
    "self_attn.o_proj": (20, 24),
    "mlp.gate_up_proj": (56, 20),
    "mlp.down_proj": (20, 28),
}
OPT: Shapes = {
    "self_attn.q_proj": (20, 20),
    "self_attn.k_proj": (20, 20),
    "self_attn.v_proj": (20, 20),
    "self_attn.out_proj": (20, 20),
    "fc1": (28, 20),
    "fc2": (20, 28),
}
GPT2: Shapes = {
    "attn.c_attn": (60, 20),
    "attn.c_proj": (20, 20),
    "mlp.c_fc": (28, 20),
    "mlp.c_proj": (20, 28),
}


def fused(attention: str, width: int, qkv: int, inner: int) -> Shapes:
    """One layer for queries, keys and values, by the names of GPT-NeoX, BLOOM and Falcon."""
    return {
        f"{attention}.query_key_value": (qkv, width),
        f"{attention}.dense": (width, width),
        "mlp.dense_h_to_4h": (inner, width),
        "mlp.dense_4h_to_h": (width, inner),
    }


NEOX = fused("attention", width=20, qkv=60, inner=28)
BLOOM = fused("self_attention", width=20, qkv=60, inner=80)
# 5 query heads of 4, one for keys, one for values.
FALCON_7B = fused("self_attention", width=20, qkv=28, inner=32)
# 6 query heads of 4, two for keys, two for values.
FALCON_40B = fused("self_attention", width=24, qkv=40, inner=32)
FALCON_RW = fused("self_attention", width=20, qkv=60, inner=32)


def experts(count: int, gate_up: tuple[int, int], down: tuple[int, int]) -> Shapes:
    kinds = {"gate_up_proj": gate_up, "down_proj": down}
    names = [(number, kind) for number in range(count) for kind in kinds]
    return {f"mlp.experts.{number}.{kind}": kinds[kind] for number, kind in names}


MIXTRAL: Shapes = {**GROUPED_ATTENTION, **experts(3, (56, 20), (20, 28))}
QWEN3_MOE: Shapes = {**GROUPED_ATTENTION, **experts(4, (32, 20), (20, 16))}

VOCABULARY = {"vocab_size": 256, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
# 5 heads of 4 are as wide as the model.
EQUAL: dict[str, Any] = {
    "hidden_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 5,
    "max_position_embeddings": 64,
    **VOCABULARY,
}
# 4 heads of 6 for queries, 2 for keys and 2 for values.
GROUPED: dict[str, Any] = {
    **EQUAL,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "intermediate_size": 28,
}
# Blocks of one model that look back differently far.
SLIDING: dict[str, Any] = {
    **GROUPED,
    "sliding_window": 4,
    "layer_types": ["sliding_attention", "full_attention"],
}
ROTATED: dict[str, Any] = {"rope_type": "default", "rope_theta": 10000.0}
HALF_ROTATED = {**ROTATED, "partial_rotary_factor": 0.5}
EXPERTS: dict[str, Any] = {**GROUPED, "num_experts_per_tok": 2}
FALCON: dict[str, Any] = {**EQUAL, "ffn_hidden_size": 32}
FALCON_40B_SIZES: dict[str, Any] = {
    **FALCON,
    "hidden_size": 24,
    "num_attention_heads": 6,
    "new_decoder_architecture": True,
    "num_kv_heads": 2,
}


@dataclass(frozen=True)
class Family:
    """A tiny model, and what of it must be pruned.

    blocks  name of the list of decoder blocks
    first   the layers of its first block, by name within the block
    second  those of the other, if they are not the same
    """

    config: hf.PreTrainedConfig
    blocks: str
    first: Shapes
    second: Shapes | None = None

    def block(self, index: int) -> Shapes:
        """The layers of a block, by full name."""
        group = self.second if index == 1 and self.second else self.first
        return {f"{self.blocks}.{index}.{name}": shape for name, shape in group.items()}


FAMILIES = {
    "Llama": Family(hf.LlamaConfig(**GROUPED), "model.layers", LLAMA),
    # 125m and nearly all others: normed before each layer.
    "OPT": Family(
        hf.OPTConfig(**EQUAL, ffn_dim=28, word_embed_proj_dim=20),
        "model.decoder.layers",
        OPT,
    ),
    # Normed behind each layer, embeddings narrower than the model.
    "OPT 350m": Family(
        hf.OPTConfig(**EQUAL, ffn_dim=28, word_embed_proj_dim=12, do_layer_norm_before=False),
        "model.decoder.layers",
        OPT,
    ),
    "Qwen2": Family(hf.Qwen2Config(**GROUPED, tie_word_embeddings=True), "model.layers", LLAMA),
    "Qwen3": Family(hf.Qwen3Config(**GROUPED), "model.layers", LLAMA),
    "Mistral": Family(hf.MistralConfig(**GROUPED, sliding_window=4), "model.layers", LLAMA),
    "Gemma 2": Family(hf.Gemma2Config(**SLIDING), "model.layers", LLAMA),
    "Gemma 3": Family(hf.Gemma3TextConfig(**SLIDING), "model.layers", LLAMA),
    "Phi-3": Family(hf.Phi3Config(**GROUPED, sliding_window=4), "model.layers", PHI3),
    "GPT-2": Family(hf.GPT2Config(**EQUAL, n_inner=28), "transformer.h", GPT2),
    "GPT-NeoX": Family(
        hf.GPTNeoXConfig(**EQUAL, intermediate_size=28, rope_parameters=HALF_ROTATED),
        "gpt_neox.layers",
        NEOX,
    ),
    "BLOOM": Family(hf.BloomConfig(**EQUAL), "transformer.h", BLOOM),
    "Falcon 7b": Family(hf.FalconConfig(**FALCON), "transformer.h", FALCON_7B),
    "Falcon 40b": Family(hf.FalconConfig(**FALCON_40B_SIZES), "transformer.h", FALCON_40B),
    # Positions by slopes of attention, the MLP behind it and not beside it.
    "Falcon RW": Family(
        hf.FalconConfig(**FALCON, alibi=True, parallel_attn=False, multi_query=False),
        "transformer.h",
        FALCON_RW,
    ),
    "Mixtral": Family(hf.MixtralConfig(**EXPERTS, num_local_experts=3), "model.layers", MIXTRAL),
    # Experts stored inputs first, the rows of gate and up taking turns.
    "GPT-OSS": Family(
        hf.GptOssConfig(**EXPERTS, num_local_experts=3, sliding_window=4, rope_parameters=ROTATED),
        "model.layers",
        MIXTRAL,
    ),
    # Its first block has no experts.
    "Qwen3-MoE": Family(
        hf.Qwen3MoeConfig(**EXPERTS, moe_intermediate_size=16, num_experts=4, mlp_only_layers=[0]),
        "model.layers",
        LLAMA,
        QWEN3_MOE,
    ),
}
