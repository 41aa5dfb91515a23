"""Checkpoints of random Llamas, written block by block."""

import json
from pathlib import Path

import torch
from transformers import LlamaConfig

from tests.models.tiny import WORDS, byte_tokenizer
from thanos_torch.checkpoint.shards import INDEX, write_shard

BLOCKS_IN_A_SHARD = 3


def llama_config(*, blocks: int, hidden: int, intermediate: int, vocabulary: int) -> LlamaConfig:
    """Of a bfloat16 model with heads as wide as Llama 3's, if it is wide enough."""
    head = min(128, hidden // 4)
    return LlamaConfig(
        vocab_size=max(vocabulary, WORDS),
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=blocks,
        num_attention_heads=hidden // head,
        num_key_value_heads=max(1, hidden // head // 4),
        head_dim=head,
        max_position_embeddings=4096,
        dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
    )


def write_llama(folder: Path, config: LlamaConfig) -> int:
    """A sharded checkpoint, never more than three blocks in memory; returns its bytes."""
    folder.mkdir(parents=True)
    blocks = config.num_hidden_layers
    config.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    torch.manual_seed(0)
    groups = [_outside(config)]
    for first in range(0, blocks, BLOCKS_IN_A_SHARD):
        last = min(blocks, first + BLOCKS_IN_A_SHARD)
        groups.append(
            {k: v for index in range(first, last) for k, v in _block(config, index).items()}
        )
    places: dict[str, str] = {}
    size = 0
    for number, shapes in enumerate(groups, 1):
        file = f"model-{number:05}-of-{len(groups):05}.safetensors"
        tensors = {name: _random(shape) for name, shape in shapes.items()}
        size += sum(tensor.nbytes for tensor in tensors.values())
        write_shard(folder / file, tensors)
        places |= dict.fromkeys(tensors, file)
    index = {"metadata": {"total_size": size}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(index))
    return size


def _outside(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    table = (config.vocab_size, config.hidden_size)
    return {
        "model.embed_tokens.weight": table,
        "model.norm.weight": (config.hidden_size,),
        "lm_head.weight": table,
    }


def _block(config: LlamaConfig, index: int) -> dict[str, tuple[int, ...]]:
    wide, inner = config.hidden_size, config.intermediate_size
    keys = (config.num_key_value_heads or 1) * (config.head_dim or 1)
    shapes: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj": (wide, wide),
        "self_attn.k_proj": (keys, wide),
        "self_attn.v_proj": (keys, wide),
        "self_attn.o_proj": (wide, wide),
        "mlp.gate_proj": (inner, wide),
        "mlp.up_proj": (inner, wide),
        "mlp.down_proj": (wide, inner),
        "input_layernorm": (wide,),
        "post_attention_layernorm": (wide,),
    }
    return {f"model.layers.{index}.{name}.weight": shape for name, shape in shapes.items()}


def _random(shape: tuple[int, ...]) -> torch.Tensor:
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.bfloat16)
    return torch.randn(shape, dtype=torch.bfloat16) * 0.02
