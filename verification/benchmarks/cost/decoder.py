"""Llama models without trained weights: a decoder block to time, whole ones to plan for."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

HEAD = 64  # numbers of an attention head, in blocks that are timed
GROUPS = 4  # heads of queries for each of keys and values


@dataclass(frozen=True)
class DecoderBlock:
    """A decoder block with random weights.

    weights  of its linear layers
    widths   numbers a token in what its parts read and put out
    """

    block: nn.Module
    rotary: nn.Module
    weights: int
    widths: int

    @torch.no_grad()
    def run(self, X: Tensor) -> Tensor:
        """The block's output for X, (1, tokens, hidden), with causal attention."""
        positions = torch.arange(X.shape[1])[None]
        output: Any = self.block(X, position_embeddings=self.rotary(X, positions))
        result: Tensor = output[0] if isinstance(output, tuple) else output
        return result


def decoder_block(hidden: int, intermediate: int) -> DecoderBlock:
    """One of Llama 3's form, in float32."""
    heads = max(1, hidden // HEAD)
    model = _build(hidden, intermediate, 1, heads, max(1, heads // GROUPS), 8, "cpu")
    block = model.model.layers[0]
    linear = [part.weight for part in block.modules() if isinstance(part, nn.Linear)]
    return DecoderBlock(
        block,
        model.model.rotary_emb,
        sum(weight.numel() for weight in linear),
        sum(sum(weight.shape) for weight in linear),
    )


def llama(
    hidden: int, intermediate: int, layers: int, heads: int, key_heads: int, vocabulary: int
) -> Any:
    """A whole model in bfloat16 that takes no memory: all of it is on the meta device."""
    return _build(hidden, intermediate, layers, heads, key_heads, vocabulary, "meta").bfloat16()


def _build(
    hidden: int,
    intermediate: int,
    layers: int,
    heads: int,
    key_heads: int,
    vocabulary: int,
    device: str,
) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        vocab_size=vocabulary,
        tie_word_embeddings=False,
    )
    with torch.device(device):
        model: Any = LlamaForCausalLM(config)
    return model.eval()
