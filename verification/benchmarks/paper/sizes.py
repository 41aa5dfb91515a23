"""The sizes of a decoder-only model, and what follows from them without its weights."""

from dataclasses import dataclass
from typing import Any

Shape = tuple[int, int]  # (c, b) of a linear layer


@dataclass(frozen=True)
class Sizes:
    """The numbers of a config.json.

    kv_heads   heads of keys and values
    positions  tokens that the model can read at once
    tied       the output head is the embedding
    """

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    positions: int
    tied: bool

    @property
    def gram_columns(self) -> tuple[int, ...]:
        """Columns of the distinct inputs of a block, a Gram matrix each.

        Of queries, keys and values; of attention's last layer; of the MLP's first and last.
        """
        return (self.hidden, self.hidden, self.hidden, self.intermediate)


@dataclass(frozen=True)
class LlamaSizes(Sizes):
    """Of a Llama: a gated MLP, no biases."""

    def config(self) -> Any:
        """For Transformers."""
        from transformers import LlamaConfig

        return LlamaConfig(
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            vocab_size=self.vocabulary,
            max_position_embeddings=self.positions,
            tie_word_embeddings=self.tied,
        )

    @property
    def block(self) -> dict[str, Shape]:
        """The layers of a decoder block that are pruned."""
        narrow = self.hidden // self.heads * self.kv_heads
        return {
            "self_attn.q_proj": (self.hidden, self.hidden),
            "self_attn.k_proj": (narrow, self.hidden),
            "self_attn.v_proj": (narrow, self.hidden),
            "self_attn.o_proj": (self.hidden, self.hidden),
            "mlp.gate_proj": (self.intermediate, self.hidden),
            "mlp.up_proj": (self.intermediate, self.hidden),
            "mlp.down_proj": (self.hidden, self.intermediate),
        }


@dataclass(frozen=True)
class OptSizes(Sizes):
    """Of an OPT: learned positions, biases.

    embedding   width of the embedding
    norm_first  each layer is normed before it and not behind
    """

    embedding: int
    norm_first: bool

    def config(self) -> Any:
        """For Transformers."""
        from transformers import OPTConfig

        return OPTConfig(
            hidden_size=self.hidden,
            ffn_dim=self.intermediate,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            vocab_size=self.vocabulary,
            max_position_embeddings=self.positions,
            tie_word_embeddings=self.tied,
            word_embed_proj_dim=self.embedding,
            do_layer_norm_before=self.norm_first,
        )

    @property
    def block(self) -> dict[str, Shape]:
        """The layers of a decoder block that are pruned."""
        square = (self.hidden, self.hidden)
        return {
            "self_attn.q_proj": square,
            "self_attn.k_proj": square,
            "self_attn.v_proj": square,
            "self_attn.out_proj": square,
            "fc1": (self.intermediate, self.hidden),
            "fc2": (self.hidden, self.intermediate),
        }


def meta_model(sizes: LlamaSizes | OptSizes) -> Any:
    """The Transformers model of these sizes without weights."""
    import torch
    from transformers import AutoModelForCausalLM

    build: Any = AutoModelForCausalLM  # whose methods lack type hints
    with torch.device("meta"):
        return build.from_config(sizes.config(), dtype=torch.float16)
