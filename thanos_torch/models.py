"""Whole Hugging Face models: load, prune, save, measure. Needs the extra `models`."""

from reference.patterns import Ablation
from thanos_torch.certifying.checkpoint import CheckpointVerdict, judge_checkpoint
from thanos_torch.certifying.layers import Judged
from thanos_torch.certifying.original import Original
from thanos_torch.certifying.provenance import Asked, Provenance
from thanos_torch.checkpoint.base_card import base_licence, base_model
from thanos_torch.checkpoint.held import HeldMasks
from thanos_torch.checkpoint.inspect import SeenLayer, changed_files, inspect_folder
from thanos_torch.checkpoint.load import (
    LoadedModel,
    checkpoint_folder,
    load_model,
    stream_model,
)
from thanos_torch.checkpoint.load_packed import PackedModel, load_packed
from thanos_torch.checkpoint.masks import PackedMask, read_masks
from thanos_torch.checkpoint.named import DEFAULT_MODEL, accept_terms
from thanos_torch.checkpoint.pack import pack_checkpoint, unpack_checkpoint
from thanos_torch.checkpoint.packed_format import PackedLayer, PackedSizes
from thanos_torch.checkpoint.reapply import reapply_checkpoint, reapply_masks
from thanos_torch.checkpoint.record import (
    LayerRecord,
    ModelReport,
    PrunedLayer,
    places_of,
    read_record,
)
from thanos_torch.checkpoint.shards import MASKS, PACKED, RECORD, Tensors
from thanos_torch.checkpoint.streamed import StreamedModel
from thanos_torch.checkpoint.terms import TermsError
from thanos_torch.evaluation.perplexity import Perplexity, perplexity
from thanos_torch.pruning.card import model_card
from thanos_torch.pruning.checkpoint import finished_run, prune_checkpoint, save_checkpoint
from thanos_torch.pruning.kept_grams import GramWriter
from thanos_torch.pruning.one_layer import relative_error
from thanos_torch.pruning.plan import DENSE, METHODS, Dense, LayerOptions, Rule, Rules
from thanos_torch.pruning.recipe_file import read_recipe
from thanos_torch.pruning.report_progress import RunState
from thanos_torch.pruning.whole_model import prune_model
from thanos_torch.runtime.ranks import Ranks, joined
from thanos_torch.text.sources import DEFAULT_DATASET
from thanos_torch.text.windows import Windows, calibration_windows, evaluation_windows

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
    "Dense",
    "GramWriter",
    "HeldMasks",
    "Judged",
    "LayerOptions",
    "LayerRecord",
    "LoadedModel",
    "ModelReport",
    "Original",
    "PackedLayer",
    "PackedMask",
    "PackedModel",
    "PackedSizes",
    "Perplexity",
    "Provenance",
    "PrunedLayer",
    "Ranks",
    "Rule",
    "Rules",
    "RunState",
    "SeenLayer",
    "StreamedModel",
    "Tensors",
    "TermsError",
    "Windows",
    "accept_terms",
    "base_licence",
    "base_model",
    "calibration_windows",
    "changed_files",
    "checkpoint_folder",
    "evaluation_windows",
    "finished_run",
    "inspect_folder",
    "joined",
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
    "relative_error",
    "save_checkpoint",
    "stream_model",
    "unpack_checkpoint",
]
