"""The models that the paper names, read from `paper_models.toml`, which explains each field."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

Shape = tuple[int, int]  # (c, b) of a linear layer


class PaperEvidence(Enum):
    """Which part of the paper's published code names a model."""

    TABLES = "tables"
    TIMES = "times"
    COMMENT = "comment"
    OURS = "ours"


@dataclass(frozen=True)
class PaperModel:
    """One model; the fields are those of `paper_models.toml`."""

    label: str
    hub_id: str
    parameters: int
    licence: str
    gated: bool
    pickled: bool
    evidence: PaperEvidence
    config_read_in: str
    model_type: str
    config: Mapping[str, int]

    @property
    def hidden(self) -> int:
        """Width of the inputs of a decoder block."""
        return self.config["hidden_size"]

    @property
    def intermediate(self) -> int:
        """Width of the MLP."""
        return self.config["ffn_dim" if self.model_type == "opt" else "intermediate_size"]

    @property
    def heads(self) -> Shape:
        """Attention heads of queries, and of keys and values."""
        queries = self.config["num_attention_heads"]
        return queries, self.config.get("num_key_value_heads", queries)

    @property
    def layers(self) -> int:
        """Number of decoder blocks."""
        return self.config["num_hidden_layers"]

    @property
    def block(self) -> list[Shape]:
        """Shapes of the pruned layers of a decoder block: attention, then the MLP."""
        queries, keys = self.heads
        square, narrow = (self.hidden, self.hidden), (self.hidden // queries * keys, self.hidden)
        first = 1 if self.model_type == "opt" else 2  # a Llama's MLP has a gate
        up, down = (self.intermediate, self.hidden), (self.hidden, self.intermediate)
        return [square, narrow, narrow, square, *[up] * first, down]

    @property
    def gram_columns(self) -> tuple[int, ...]:
        """Columns of each distinct input of a decoder block, which has a Gram matrix of its own.

        Inputs of the query, key and value projections; of attention's output projection; of the
        MLP's first layers; of its last layer.
        """
        return (self.hidden, self.hidden, self.hidden, self.intermediate)


def _read(file: Path) -> tuple[PaperModel, ...]:
    """Raises TypeError or ValueError if a field is missing or unknown."""
    content = tomllib.loads(file.read_text(encoding="utf-8"))
    return tuple(
        PaperModel(**{**each, "evidence": PaperEvidence(each["evidence"])})
        for each in content["model"]
    )


MODELS = _read(Path(__file__).with_suffix(".toml"))
