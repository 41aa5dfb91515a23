"""The small models: real Transformers classes with 2 to 5 million parameters."""

from typing import Any

VOCABULARY = 2048  # tokens; a larger one would spend the parameters on rare words
POSITIONS = 512  # tokens that a model can read at once

# Small enough to be trained in minutes on one core, with four blocks to see depth by. All widths
# are multiples of 16, so that every n:m pattern of the study fits.
_SHARED: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": POSITIONS,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": None,
    "use_cache": False,
}
# What makes each family itself: where the norms are, what is shared, what is rotated. Embeddings
# are tied where the family's own small models tie them. OPT's dropout is off: the others have none.
_FAMILIES: dict[str, dict[str, Any]] = {
    # Learned positions, ReLU, biases.
    "opt": {"ffn_dim": 768, "word_embed_proj_dim": 192, "dropout": 0.0, "pad_token_id": 0},
    # Rotated queries and keys, a gated MLP, keys shared by two heads as in Llama 3.
    "llama": {"intermediate_size": 512, "num_key_value_heads": 2, "tie_word_embeddings": False},
    # As Llama, with normed queries and keys, and heads that are wider together than the model.
    "qwen3": {
        "intermediate_size": 512,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "tie_word_embeddings": True,
    },
    # Attention and MLP beside each other, queries, keys and values in one layer, GELU, biases.
    "neox": {"intermediate_size": 768, "tie_word_embeddings": False},
}
PREFIX = "small-"  # of a model's name; the family follows
FAMILIES = tuple(_FAMILIES)


def family_config(family: str, **changes: Any) -> Any:
    """The Transformers config of a family's small model; `changes` replace settings of it.

    Raises ValueError for a family that is not there.
    """
    import transformers as hf

    if family not in _FAMILIES:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}, got {family!r}")
    classes: dict[str, Any] = {
        "opt": hf.OPTConfig,
        "llama": hf.LlamaConfig,
        "qwen3": hf.Qwen3Config,
        "neox": hf.GPTNeoXConfig,
    }
    return classes[family](**_SHARED | _FAMILIES[family] | changes)


def new_model(config: Any, seed: int) -> Any:
    """A causal language model with the family's own random weights, float32."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    build: Any = AutoModelForCausalLM  # whose methods lack type hints
    return build.from_config(config, dtype=torch.float32)
