"""Tiny models of text and images or sound: a tower, a projector, and a language model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf
from torch import Tensor

from tests.models.tiny import randomise

IMAGE = 250  # the id of the token in whose place a patch of an image, or a frame of a sound, goes
TEXT: dict[str, Any] = {
    "vocab_size": 256, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
    "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
# Four patches of 14 x 14.
TOWER: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 28, "patch_size": 14,
}  # fmt: skip
SOUND: dict[str, Any] = {
    "d_model": 16, "hidden_size": 16, "intermediate_size": 24, "encoder_ffn_dim": 24,
    "encoder_layers": 1, "num_hidden_layers": 1, "encoder_attention_heads": 2,
    "num_attention_heads": 2, "num_mel_bins": 4, "max_source_positions": 8,
}  # fmt: skip
# What the language models of Qwen's turn their heads by: time, height and width.
SECTIONS = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
QWEN_TEXT = {**TEXT, "rope_parameters": SECTIONS}
QWEN_IDS = {"image_token_id": IMAGE, "video_token_id": 251, "vision_start_token_id": 252,
            "vision_end_token_id": 253, "tie_word_embeddings": False}  # fmt: skip


def pixels(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def whole_image() -> dict[str, Any]:
    return {"pixel_values": pixels(1, 3, 28, 28)}


def patches() -> dict[str, Any]:
    kinds = torch.zeros(1, 16, dtype=torch.int64)
    kinds[0, 3:7] = 1
    image = {"pixel_values": pixels(4, 3 * 14 * 14), "image_grid_thw": torch.tensor([[1, 2, 2]])}
    return {**image, "mm_token_type_ids": kinds}


@dataclass(frozen=True)
class Towered:
    """A tiny model, and what it reads beside text.

    blocks  the name of its list of decoder blocks
    beside  makes the other inputs
    tokens  how many tokens of the text these stand for
    """

    config: Callable[[], Any]
    blocks: str
    beside: Callable[[], dict[str, Any]]
    tokens: int = 4

    def model(self) -> Any:
        """A model with random weights, of the class that Transformers loads a checkpoint with."""
        torch.manual_seed(0)
        build: Any = hf.AutoModelForMultimodalLM  # whose methods lack type hints
        return randomise(build.from_config(self.config(), dtype=torch.float32).eval())

    def inputs(self) -> dict[str, Any]:
        """A text of 16 tokens, with an image or a sound in it."""
        ids = torch.randint(3, 200, (1, 16), generator=torch.Generator().manual_seed(1))
        ids[0, 3 : 3 + self.tokens] = IMAGE
        return {"input_ids": ids, "use_cache": False, **self.beside()}


def qwen_tower(**changes: Any) -> dict[str, Any]:
    return {
        "depth": 1, "hidden_size": 16, "embed_dim": 16, "intermediate_size": 24, "num_heads": 2,
        "patch_size": 14, "spatial_merge_size": 1, "temporal_patch_size": 1, "out_hidden_size": 16,
        **changes,
    }  # fmt: skip


TOWERED = {
    "Llava": Towered(
        lambda: hf.LlavaConfig(
            text_config=hf.LlamaConfig(**TEXT), vision_config=hf.CLIPVisionConfig(**TOWER),
            image_token_index=IMAGE, vision_feature_layer=-1,
        ),
        "model.language_model.layers",
        whole_image,
    ),
    "Llava of Pixtral": Towered(
        lambda: hf.LlavaConfig(
            text_config=hf.MistralConfig(**TEXT), image_token_index=IMAGE, vision_feature_layer=-1,
            vision_config=hf.PixtralVisionConfig(**{**TOWER, "head_dim": 8}),
            vision_feature_select_strategy="full",
        ),
        "model.language_model.layers",
        lambda: {**whole_image(), "image_sizes": torch.tensor([[28, 28]])},
    ),
    "Qwen2-VL": Towered(
        lambda: hf.Qwen2VLConfig(
            text_config=QWEN_TEXT, vision_config=qwen_tower(hidden_size=16, mlp_ratio=2), **QWEN_IDS
        ),
        "model.language_model.layers",
        patches,
    ),
    "Qwen2.5-VL": Towered(
        lambda: hf.Qwen2_5_VLConfig(
            text_config=QWEN_TEXT, vision_config=qwen_tower(fullatt_block_indexes=[0]), **QWEN_IDS
        ),
        "model.language_model.layers",
        patches,
    ),
    "Qwen3-VL": Towered(
        lambda: hf.Qwen3VLConfig(
            text_config=QWEN_TEXT,
            vision_config=qwen_tower(deepstack_visual_indexes=[0], num_position_embeddings=16),
            **QWEN_IDS,
        ),
        "model.language_model.layers",
        patches,
    ),
    # Not square: one expert of 24 rows and 16 columns, and back.
    "Qwen3-VL-MoE": Towered(
        lambda: hf.Qwen3VLMoeConfig(
            text_config={
                **QWEN_TEXT, "num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 12
            },
            vision_config=qwen_tower(deepstack_visual_indexes=[0], num_position_embeddings=16),
            **QWEN_IDS,
        ),
        "model.language_model.layers",
        patches,
    ),
    "PaliGemma": Towered(
        lambda: hf.PaliGemmaConfig(
            text_config=hf.GemmaConfig(**TEXT), vision_config=hf.SiglipVisionConfig(**TOWER),
            image_token_index=IMAGE, projection_dim=16, hidden_size=16,
        ),
        "model.language_model.layers",
        whole_image,
    ),
    "Gemma 3": Towered(
        lambda: hf.Gemma3Config(
            text_config=hf.Gemma3TextConfig(**TEXT, sliding_window=8),
            vision_config=hf.SiglipVisionConfig(**TOWER, vision_use_head=False),
            image_token_index=IMAGE, mm_tokens_per_image=4,
        ),
        "model.language_model.layers",
        whole_image,
    ),
    "Idefics3": Towered(
        lambda: hf.Idefics3Config(
            text_config=hf.LlamaConfig(**TEXT), vision_config=TOWER, image_token_id=IMAGE,
            scale_factor=2, pad_token_id=0, tie_word_embeddings=False,
        ),
        "model.text_model.layers",
        lambda: {"pixel_values": pixels(1, 1, 3, 28, 28)},
        tokens=1,
    ),
    "InternVL": Towered(
        lambda: hf.InternVLConfig(
            text_config=hf.Qwen2Config(**TEXT),
            vision_config={**TOWER, "image_size": [28, 28], "patch_size": [14, 14]},
            image_token_id=IMAGE, vision_feature_layer=-1,
        ),
        "model.language_model.layers",
        whole_image,
        tokens=1,
    ),
    "Mistral 3": Towered(
        lambda: hf.Mistral3Config(
            text_config=hf.MistralConfig(**TEXT), image_token_index=IMAGE, vision_feature_layer=-1,
            vision_config=hf.PixtralVisionConfig(**{**TOWER, "head_dim": 8}), spatial_merge_size=1,
        ),
        "model.language_model.layers",
        lambda: {**whole_image(), "image_sizes": torch.tensor([[28, 28]])},
    ),
    "Qwen2-Audio": Towered(
        lambda: hf.Qwen2AudioConfig(
            text_config=hf.Qwen2Config(**TEXT), audio_config=SOUND, audio_token_index=IMAGE,
        ),
        "model.language_model.layers",
        lambda: {
            "input_features": pixels(1, 4, 16),
            "feature_attention_mask": torch.ones(1, 16, dtype=torch.int64),
        },
    ),
    "Voxtral": Towered(
        lambda: hf.VoxtralConfig(
            text_config=hf.LlamaConfig(**TEXT),
            audio_config={**SOUND, "intermediate_size": 64, "encoder_ffn_dim": 64},
            audio_token_id=IMAGE, hidden_size=16,
        ),
        "model.language_model.layers",
        lambda: {"input_features": pixels(1, 4, 16)},
        tokens=2,
    ),
}  # fmt: skip
