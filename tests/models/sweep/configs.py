"""A tiny configuration of every class that Transformers registers for causal language modelling."""

from collections.abc import Mapping
from typing import Any

from transformers import CONFIG_MAPPING, PreTrainedConfig

# Models call one size by many names. A name that a configuration lacks, or holds None, is left out.
_NAMES: Mapping[int, str] = {
    # width of the model, of its embeddings
    32: """hidden_size d_model n_embd dim emb_dim embedding_size word_embed_proj_dim dim_model
        d_embed pronunciation_embed_dim shape_embed_dim hidden_size_global ple_embed_dim
        backbone_hidden_size input_embedding_size output_embedding_size lru_width""",
    # width inside of feed-forwards
    48: """intermediate_size ffn_dim ffn_hidden_size d_inner n_inner dff decoder_ffn_dim
        encoder_ffn_dim dim_ff feed_forward_size intermediate_size_mlp shared_intermediate_size""",
    # width inside of experts, and of what is between the factors of a weight
    16: """output_channels rel_extent moe_intermediate_size shared_expert_intermediate_size
        expert_ffn_hidden_size shared_experts_intermediate_size q_lora_rank kv_lora_rank
        moe_shared_expert_intermediate_size o_lora_rank hc_lowrank laurel_rank adapter_rank
        hidden_size_per_layer_input attention_chunk_size chunk_size mamba_chunk_size""",
    4: """num_attention_heads n_head n_heads num_heads encoder_attention_heads
        decoder_attention_heads num_encoder_attention_heads num_decoder_attention_heads
        linear_num_value_heads index_n_heads num_experts n_routed_experts num_local_experts
        moe_num_experts time_step_rank mamba_dt_rank indexer_n_heads linear_num_heads""",
    2: """num_key_value_heads n_kv_heads num_kv_heads kv_n_heads num_experts_per_tok
        num_experts_per_token moe_topk moe_k moe_top_k top_k_experts linear_num_key_heads
        num_hidden_layers n_layer n_layers num_layers decoder_layers num_decoder_layers
        n_mamba_heads o_groups zero_expert_num hc_mult hc_count conv_kernel conv_kernel_size
        mamba_d_conv conv_L_cache linear_conv_kernel_dim short_conv_kernel_size conv1d_width
        ple_conv_kernel_size""",
    1: """encoder_layers num_encoder_layers n_group num_expert_group topk_group n_groups
        mamba_n_groups mamba_ngroups first_k_dense_replace num_dense_layers""",
    8: """head_dim d_head d_kv dim_head kv_channels qk_rope_head_dim qk_nope_head_dim v_head_dim
        attention_head_size attention_head_dim linear_head_dim linear_key_head_dim
        linear_value_head_dim swa_head_dim swa_v_head_dim index_head_dim index_topk
        global_head_dim mamba_d_head mamba_head_dim mamba_headdim mamba_n_heads mamba_num_heads
        mamba_d_state state_size ssm_state_size sliding_window local_attention window_size
        rotary_dim router_hidden_size""",
    64: """max_position_embeddings n_positions n_ctx max_seq_len model_max_length
        original_max_position_embeddings""",
    128: """vocab_size n_vocab vocab_size_per_layer_input pronunciation_vocab_size shape_vocab_size
        encoder_hash_byte_group_vocab ngram_vocab_size_base text_vocab_size""",
}
SIZES = {name: size for size, names in _NAMES.items() for name in names.split()}
SPECIAL_TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers")
_HEADS = ("num_attention_heads", "num_key_value_heads")

# What the names do not say: sizes that depend on one another, and what the default leaves open.
_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
# Blocks that look back differently far, of which the second half takes the first half's keys.
_SHARED_KEYS = {
    "num_hidden_layers": 4,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "num_kv_shared_layers": 2,
}
_LLAMA4 = {
    "num_hidden_layers": 4,
    "layer_types": ["chunked_attention"] * 3 + ["full_attention"],
    "no_rope_layers": [1, 1, 1, 0],
    "moe_layers": [1, 3],
}
_QWEN4 = {"indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 8}
_QWEN4 |= {"indexer_budget": 8, "indexer_compress_ratio": 4}
_SLIDING_MLA = {"head_dim": 16, "num_attention_heads": 4, "num_key_value_heads": 4}
_SLIDING_MLA |= {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "v_head_dim": 8}
_DOTS3 = {f"swa_{name}": size for name, size in _SLIDING_MLA.items()}
_ZAMBA = {
    "num_hidden_layers": 4,
    "layers_block_type": ["mamba", "hybrid"] * 2,
    "layer_types": ["mamba", "hybrid"] * 2,
    "attention_hidden_size": 64,
    "attention_head_dim": 16,
}
_OWN: Mapping[str, Mapping[str, Any]] = {
    "cohere_compass_text": {"rope_parameters": {"full_attention": _ROPE}},
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "clip_qkv": 8.0}},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "dots3_note": {
        "text_config": _DOTS3,
        "vision_config": {"adapter_in_dim": 32, "adapter_out_dim": 32},
        "audio_config": {"adapter_input_size": 32, "adapter_out_dim": 32},
    },
    "dots3_note_text": _DOTS3,
    "falcon_h1": {"mamba_d_ssm": 64},
    "flint": {"mlp_only_layers": [0]},
    "gemma3n_text": {
        **_SHARED_KEYS,
        "intermediate_size": [48] * 4,
        "activation_sparsity_pattern": [0.5, 0.0] * 2,
    },
    "gemma4": {"text_config": {"global_head_dim": 16}},
    "gemma4_text": {**_SHARED_KEYS, "global_head_dim": 16},
    "gemma4_unified": {"text_config": {"global_head_dim": 16}},
    "gemma4_unified_text": {**_SHARED_KEYS, "global_head_dim": 16},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "bamba": {"attn_layer_indices": [1]},
    "jamba": {"num_hidden_layers": 4, "attn_layer_period": 4, "attn_layer_offset": 2},
    "lfm2": {"block_auto_adjust_ff_dim": False},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "llama4": {"text_config": _LLAMA4},
    "llama4_text": _LLAMA4,
    "mamba2": {"num_heads": 8},
    "ministral": {"head_dim": 8},
    "mllama": {"text_config": {"num_hidden_layers": 3, "cross_attention_layers": [1]}},
    "nemotron": {"num_key_value_heads": 2},
    "phi4_multimodal": {
        "audio_config": {
            "nemo_conv_channels": 8,
            "ext_pw_out_channel": 32,
            "depthwise_separable_out_channel": 32,
            "num_blocks": 1,
        },
        "vision_config": {"image_size": 28, "crop_size": 28},
    },
    "qwen4_exp": {"text_config": _QWEN4},
    "qwen4_exp_text": _QWEN4,
    "recurrent_gemma": {
        "num_hidden_layers": 3,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 4,
    },
    "reformer": {
        "is_decoder": True,
        "axial_pos_shape": [8, 8],
        "axial_pos_embds_dim": [16, 16],
        "local_attn_chunk_length": 8,
        "lsh_attn_chunk_length": 8,
    },
    "rwkv": {"rescale_every": 1},  # the default of 6 blocks would be more than there are
    "xmod": {"default_language": "en_XX"},
    "zaya": {"moe_intermediate_size": 48},
    "zamba": _ZAMBA,
    "zamba2": {**_ZAMBA, "n_mamba_heads": 8},
}
# What the default configuration cannot be made without.
_DEFAULT: Mapping[str, Mapping[str, Any]] = {
    "gemma4_assistant": {
        "text_config": {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}
    },
}


def tiny_config(model_type: str) -> PreTrainedConfig:
    """The configuration of a few ten thousand weights, with every kind of block of the default."""
    kind = CONFIG_MAPPING[model_type]
    return kind(**_merged(_small(default_config(model_type)), _OWN.get(model_type, {})))


def default_config(model_type: str) -> Any:
    """The configuration of the class's own defaults, as far as they can be."""
    return CONFIG_MAPPING[model_type](**_DEFAULT.get(model_type, {}))


def _small(config: PreTrainedConfig) -> dict[str, Any]:
    """Arguments for a small configuration of the same class, inner ones as dictionaries."""
    known = {
        **vars(config),
        **{name: vars(config).get(own) for name, own in config.attribute_map.items()},
    }
    small = {
        name: size if name in SPECIAL_TOKENS else min(size, known[name])
        for name, size in (SIZES | SPECIAL_TOKENS).items()
        if type(known.get(name)) is int
    }
    if len({known.get(name) for name in _HEADS}) == 1:  # no groups of heads
        small |= {name: SIZES[_HEADS[0]] for name in _HEADS if name in small}
    small |= {
        name: _small(value) for name, value in known.items() if isinstance(value, PreTrainedConfig)
    }
    return small | _fewer_blocks(known)


def _fewer_blocks(known: Mapping[str, Any]) -> dict[str, Any]:
    """What is said block by block, of the first block of each kind; two blocks at least."""
    depth = next((known[name] for name in _DEPTHS if known.get(name)), None)
    by_block = {
        name: value
        for name, value in known.items()
        if isinstance(value, list | tuple) and len(value) == depth and value != [*range(len(value))]
    }
    kinds: dict[str, int] = {}
    for index in range(depth or 0):
        kinds.setdefault(repr([value[index] for value in by_block.values()]), index)
    chosen = sorted(kinds.values()) if len(kinds) > 1 else [0, 1]
    few = {
        name: [SIZES.get(name) or value[index] for index in chosen]
        for name, value in by_block.items()
    }
    return {**few, **({n: len(chosen) for n in _DEPTHS if n in known} if few else {})}


def _merged(given: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with the values of `own`, dictionaries in dictionaries too."""
    inner = {
        name: _merged(given.get(name, {}), value)
        for name, value in own.items()
        if isinstance(value, Mapping) and isinstance(given.get(name), Mapping)
    }
    return {**given, **own, **inner}
