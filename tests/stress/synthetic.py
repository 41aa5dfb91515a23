"""Checkpoints of random Llamas, written block by block."""

import json
import re
from collections import defaultdict
from pathlib import Path

import torch
from transformers import LlamaConfig

from tests.models.tiny import WORDS, byte_tokenizer
from thanos_torch.checkpoint.shards import INDEX, write_shard
from thanos_torch.pruning.dry_run import meta_model

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


def write_llama(folder: Path, config: LlamaConfig) -> None:
    """A sharded checkpoint, never more than three blocks in memory."""
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    groups: dict[int, dict[str, torch.Size]] = defaultdict(dict)
    for name, weight in meta_model(str(folder)).named_parameters():
        block = re.search(r"layers\.(\d+)\.", name)
        groups[1 + int(block[1]) // BLOCKS_IN_A_SHARD if block else 0][name] = weight.shape
    torch.manual_seed(0)
    places: dict[str, str] = {}
    size = 0
    for number, shapes in sorted(groups.items()):
        file = f"model-{number + 1:05}-of-{len(groups):05}.safetensors"
        tensors = {name: _random(shape) for name, shape in shapes.items()}
        size += sum(tensor.nbytes for tensor in tensors.values())
        write_shard(folder / file, tensors)
        places |= dict.fromkeys(tensors, file)
    index = {"metadata": {"total_size": size}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(index))


def _random(shape: torch.Size) -> torch.Tensor:
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.bfloat16)
    return torch.randn(shape, dtype=torch.bfloat16) * 0.02
