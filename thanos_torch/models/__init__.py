"""Whole Hugging Face models: load, prune, save, measure. Needs the extra `models`."""

from reference.patterns import Ablation
from thanos_torch.models.asked import Asked
from thanos_torch.models.card import model_card
from thanos_torch.models.checkpoint import finished_run, save_checkpoint
from thanos_torch.models.checkpoint_verdict import CheckpointVerdict, judge_checkpoint
from thanos_torch.models.fingerprint import versions
from thanos_torch.models.folders import refuse_unusable, stamp
from thanos_torch.models.gram_files import GramReader, GramWriter
from thanos_torch.models.inspection import SeenLayer, inspect_folder, places_of, read_record
from thanos_torch.models.judging import Judged, judge_again
from thanos_torch.models.licence import base_licence
from thanos_torch.models.load_packed import PackedModel, load_packed
from thanos_torch.models.loading import (
    DEFAULT_MODEL,
    LoadedModel,
    checkpoint_folder,
    load_model,
    stream_model,
)
from thanos_torch.models.masks import MASKS, PackedMask, read_masks
from thanos_torch.models.original import Original
from thanos_torch.models.packed import PackedFolder
from thanos_torch.models.packed_sizes import PackedLayer, PackedSizes
from thanos_torch.models.packing import pack_checkpoint
from thanos_torch.models.perplexity import Perplexity, perplexity
from thanos_torch.models.provenance import Provenance
from thanos_torch.models.prune_checkpoint import prune_checkpoint
from thanos_torch.models.pruning import prune_model
from thanos_torch.models.ranks import Ranks, joined
from thanos_torch.models.reapply import HeldMasks, reapply_checkpoint, reapply_masks
from thanos_torch.models.recipe import METHODS, LayerOptions
from thanos_torch.models.recipe_file import read_recipe
from thanos_torch.models.report import LayerRecord, ModelReport, PrunedLayer
from thanos_torch.models.rules import DENSE, Choice, Dense, Plan, Rule, Rules
from thanos_torch.models.shards import PACKED, RECORD
from thanos_torch.models.solving import relative_error
from thanos_torch.models.streamed import StreamedModel
from thanos_torch.models.tensors import Tensors
from thanos_torch.models.text import DEFAULT_DATASET
from thanos_torch.models.unpacking import unpack_checkpoint
from thanos_torch.models.windows import Windows, calibration_windows, evaluation_windows
from thanos_torch.models.workfolder import discard_progress, has_progress

__all__ = [
    "DEFAULT_DATASET",
    "DEFAULT_MODEL",
    "DENSE",
    "MASKS",
    "METHODS",
    "PACKED",
    "RECORD",
    "Ablation",
    "Asked",
    "CheckpointVerdict",
    "Choice",
    "Dense",
    "GramReader",
    "GramWriter",
    "HeldMasks",
    "Judged",
    "LayerOptions",
    "LayerRecord",
    "LoadedModel",
    "ModelReport",
    "Original",
    "PackedFolder",
    "PackedLayer",
    "PackedMask",
    "PackedModel",
    "PackedSizes",
    "Perplexity",
    "Plan",
    "Provenance",
    "PrunedLayer",
    "Ranks",
    "Rule",
    "Rules",
    "SeenLayer",
    "StreamedModel",
    "Tensors",
    "Windows",
    "base_licence",
    "calibration_windows",
    "checkpoint_folder",
    "discard_progress",
    "evaluation_windows",
    "finished_run",
    "has_progress",
    "inspect_folder",
    "joined",
    "judge_again",
    "judge_checkpoint",
    "load_model",
    "load_packed",
    "model_card",
    "pack_checkpoint",
    "perplexity",
    "places_of",
    "prune_checkpoint",
    "prune_model",
    "read_masks",
    "read_recipe",
    "read_record",
    "reapply_checkpoint",
    "reapply_masks",
    "refuse_unusable",
    "relative_error",
    "save_checkpoint",
    "stamp",
    "stream_model",
    "unpack_checkpoint",
    "versions",
]
