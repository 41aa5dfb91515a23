"""The models of the paper: labels, hub ids, sizes, licences.

The hub ids come from the published code (github.com/vectozavr/thanos); `PaperEvidence` says where
each is named. Its table script shortens them to "LLama2-1.1B", "Llama-3-1B" and so on. The labels
are these names in the spelling of the models' own papers.

The sizes come from each model's config.json. Gated models do not publish theirs, so that it was
read in a public copy, `PaperModel.config_read_in`. A test builds every model without weights and
compares its number of parameters.

The main branches of opt-125m and opt-1.3b hold only pickled weights; for the other OPT models this
is inferred.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any

Shape = tuple[int, int]  # (c, b) of a linear layer


@dataclass(frozen=True)
class ModelSizes:
    """Sizes from a config.json.

    kv_heads   heads of keys and values
    positions  longest context, in tokens
    tied       whether the output head shares the weights of the embedding
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
        """Columns of each distinct input of a decoder block, which has a Gram matrix of its own.

        Inputs of the query, key and value projections; of attention's output projection; of the
        MLP's first layers; of its last layer.
        """
        return (self.hidden, self.hidden, self.hidden, self.intermediate)


@dataclass(frozen=True)
class LlamaSizes(ModelSizes):
    """Sizes of a Llama, which has a gated MLP and no biases."""

    def config(self) -> Any:
        """The configuration object of Transformers."""
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
        """Shapes of the pruned layers of a decoder block, by name."""
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
class OptSizes(ModelSizes):
    """Sizes of an OPT, which has learned positions and biases.

    embedding   width of the embedding
    norm_first  whether the norms come before attention and MLP instead of after them
    """

    embedding: int
    norm_first: bool

    def config(self) -> Any:
        """The configuration object of Transformers."""
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
        """Shapes of the pruned layers of a decoder block, by name."""
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
    """A Transformers model of these sizes on the meta device, without weights."""
    import torch
    from transformers import AutoModelForCausalLM

    build: Any = AutoModelForCausalLM  # whose methods lack type hints
    with torch.device("meta"):
        return build.from_config(sizes.config(), dtype=torch.float16)


class PaperEvidence(Enum):
    """How a model is known to belong to the paper."""

    TABLES = "known, `construct_tables.py` makes tables of these models"
    TIMES = "known, `time_measurements.py` times them and the smaller OPT"
    COMMENT = "inferred, a comment of `main.py` names them and no script runs them"
    OURS = "not of the paper, the cost model predicts it"


@dataclass(frozen=True)
class PaperModel:
    """One model.

    label       name in the paper's tables
    hub_id      name on huggingface.co
    parameters  number of parameters; tied ones count once
    licence     licence of the weights
    gated       whether a download needs an account that accepted the licence
    pickled     whether the hub's main branch lacks safetensors, the only format read here
    oddity      warning for people who compare numbers; may be empty
    """

    label: str
    hub_id: str
    parameters: int
    sizes: LlamaSizes | OptSizes
    licence: str
    gated: bool
    pickled: bool
    evidence: PaperEvidence
    config_read_in: str
    oddity: str = ""


_OPT_LICENCE = "OPT-175B licence (research only)"
_LLAMA_2, _LLAMA_3 = "LLaMA 2 community licence", "Llama 3 community licence"
_LLAMA_31, _LLAMA_32 = "Llama 3.1 community licence", "Llama 3.2 community licence"


def _opt(
    label: str,
    parameters: int,
    shape: tuple[int, int, int],
    evidence: PaperEvidence,
    read_in: str,
    oddity: str = "",
    *,
    embedding: int | None = None,
) -> PaperModel:
    """An OPT of shape (hidden, layers, heads); its MLP is four times as wide as `hidden`."""
    hidden, layers, heads = shape
    sizes = OptSizes(
        hidden=hidden,
        intermediate=4 * hidden,
        layers=layers,
        heads=heads,
        kv_heads=heads,
        vocabulary=50272,
        positions=2048,
        tied=True,
        embedding=embedding or hidden,
        norm_first=embedding is None,
    )
    return PaperModel(
        label=label,
        hub_id=f"facebook/{label.lower()}",
        parameters=parameters,
        sizes=sizes,
        licence=_OPT_LICENCE,
        gated=False,
        pickled=True,
        evidence=evidence,
        config_read_in=read_in,
        oddity=oddity,
    )


def _llama(
    names: tuple[str, str],
    parameters: int,
    shape: tuple[int, int, int, int, int],
    text: tuple[int, int],
    terms: tuple[str, bool],
    read_in: str,
    oddity: str = "",
    *,
    tied: bool = False,
    evidence: PaperEvidence = PaperEvidence.TABLES,
) -> PaperModel:
    """A Llama.

    names  label and hub id
    shape  (hidden, intermediate, layers, heads, kv_heads)
    text   (vocabulary, positions)
    terms  licence, and whether it is gated
    """
    sizes = LlamaSizes(*shape, *text, tied)
    return PaperModel(*names, parameters, sizes, *terms, False, evidence, read_in, oddity)


MODELS = (
    _opt(
        "OPT-125M",
        125_239_296,
        (768, 12, 12),
        PaperEvidence.TABLES,
        "inverse-scaling/opt-125m_eval",
    ),
    _opt(
        "OPT-350M",
        331_196_416,
        (1024, 24, 16),
        PaperEvidence.TABLES,
        "sartajbhuvaji/facebook-opt-350m-chat",
        "The only OPT that norms behind each layer (do_layer_norm_before is false), so inputs of "
        "layers are not normed and the last norm is missing. Its embedding is 512 wide, with a "
        "projection to 1024 and one back, which are not pruned. 331 M parameters, not 350.",
        embedding=512,
    ),
    _opt(
        "OPT-1.3B",
        1_315_758_080,
        (2048, 24, 32),
        PaperEvidence.TABLES,
        "AlekseyKorshuk/1.3b-dalio-principles-book",
    ),
    _opt("OPT-2.7B", 2_651_596_800, (2560, 32, 32), PaperEvidence.TIMES, "facebook/opt-2.7b"),
    _opt(
        "OPT-6.7B",
        6_658_473_984,
        (4096, 32, 32),
        PaperEvidence.TIMES,
        "iproskurina/opt-6.7b-GPTQ-4bit-g128",
    ),
    _opt(
        "OPT-13B",
        12_853_473_280,
        (5120, 40, 40),
        PaperEvidence.COMMENT,
        "inverse-scaling/opt-13b_eval",
    ),
    _opt(
        "OPT-30B",
        29_974_540_288,
        (7168, 48, 56),
        PaperEvidence.COMMENT,
        "lucadiliello/opt-30b-deepspeed-inference-fp16-shard-2",
        "Early copies of its config say _remove_final_layer_norm: true, which drops the last norm; "
        "later ones say false.",
    ),
    _llama(
        ("LLaMA-2-1.1B", "TinyLlama/TinyLlama-1.1B-Chat-v1.0"),
        1_100_048_384,
        (2048, 5632, 22, 32, 4),
        (32000, 2048),
        ("Apache-2.0", False),
        "mgoin/TinyLlama-1.1B-Chat-v1.0-pruned50-quant-ds",
        "Not a LLaMA 2 and not a base model: TinyLlama, trained on 3 T tokens with LLaMA 2's "
        "architecture and tokenizer, in its chat version (UltraChat, then DPO). The base model "
        "is TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T, with another perplexity.",
    ),
    _llama(
        ("LLaMA-2-7B", "meta-llama/Llama-2-7b-hf"),
        6_738_415_616,
        (4096, 11008, 32, 32, 32),
        (32000, 4096),
        (_LLAMA_2, True),
        "philschmid/Llama-2-7b-hf",
        "Reads 4,096 tokens.",
    ),
    _llama(
        ("LLaMA-2-13B", "meta-llama/Llama-2-13b-hf"),
        13_015_864_320,
        (5120, 13824, 40, 40, 40),
        (32000, 4096),
        (_LLAMA_2, True),
        "LoftQ/Llama-2-13b-hf-4bit-64rank",
        "Reads 4,096 tokens.",
    ),
    _llama(
        ("LLaMA-2-70B", "meta-llama/Llama-2-70b-hf"),
        68_976_648_192,
        (8192, 28672, 80, 64, 8),
        (32000, 4096),
        (_LLAMA_2, True),
        "TheBloke/Llama-2-70B-fp16",
        "Reads 4,096 tokens. The only one of the LLaMA 2 here whose heads share keys and values.",
    ),
    _llama(
        ("LLaMA-3-1B", "meta-llama/Llama-3.2-1B"),
        1_235_814_400,
        (2048, 8192, 16, 32, 8),
        (128256, 131072),
        (_LLAMA_32, True),
        "Emm9625/Llama-3.2-1B-chatml",
        "Llama 3.2, not 3, with a tied embedding: a fifth of its parameters. It can read 131,072 "
        "tokens: whoever measures with the longest window scores two windows of WikiText-2.",
        tied=True,
    ),
    _llama(
        ("LLaMA-3-3B", "meta-llama/Llama-3.2-3B"),
        3_212_749_824,
        (3072, 8192, 28, 24, 8),
        (128256, 131072),
        (_LLAMA_32, True),
        "mlx-community/Llama-3.2-3B-bf16",
        "Llama 3.2, not 3: as LLaMA-3-1B.",
        tied=True,
    ),
    _llama(
        ("LLaMA-3-8B", "meta-llama/Meta-Llama-3-8B"),
        8_030_261_248,
        (4096, 14336, 32, 32, 8),
        (128256, 8192),
        (_LLAMA_3, True),
        "jerryzh168/llama3-8B",
        "Llama 3 and not 3.1, whose sizes are the same. Reads 8,192 tokens.",
    ),
    _llama(
        ("LLaMA-3-70B", "meta-llama/Meta-Llama-3-70B"),
        70_553_706_496,
        (8192, 28672, 80, 64, 8),
        (128256, 8192),
        (_LLAMA_3, True),
        "kittn/Meta-Llama-3-70B-quant",
        "Llama 3 and not 3.1, as LLaMA-3-8B.",
    ),
    _llama(
        ("Llama-3.1-405B", "meta-llama/Llama-3.1-405B"),
        405_853_388_800,
        (16384, 53248, 126, 128, 8),
        (128256, 131072),
        (_LLAMA_31, True),
        "relaxml/Llama-3.1-405B-Instruct-QTIP-2Bit-TP8",
        "Not in the paper. First published with 16 heads for keys and values, each of the 8 "
        "stored twice: copies of that time have 4 B parameters more.",
        evidence=PaperEvidence.OURS,
    ),
)
