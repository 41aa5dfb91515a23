"""Whole Hugging Face models: load, prune, save, measure. Needs the extra `models`."""

from thanos_torch.models.checkpoint import finished_run, save_checkpoint
from thanos_torch.models.fingerprint import versions
from thanos_torch.models.folders import refuse_unusable, stamp
from thanos_torch.models.loading import DEFAULT_MODEL, LoadedModel, load_model, stream_model
from thanos_torch.models.masks import MASKS, PackedMask, read_masks
from thanos_torch.models.perplexity import Perplexity, perplexity
from thanos_torch.models.prune_checkpoint import prune_checkpoint
from thanos_torch.models.pruning import prune_model, relative_error
from thanos_torch.models.recipe import METHODS, Recipe, check_options
from thanos_torch.models.report import LayerRecord, ModelReport, PrunedLayer
from thanos_torch.models.shards import RECORD
from thanos_torch.models.streamed import StreamedModel
from thanos_torch.models.text import DEFAULT_DATASET
from thanos_torch.models.windows import Windows, calibration_windows, evaluation_windows
from thanos_torch.models.workfolder import discard_progress

__all__ = [
    "DEFAULT_DATASET",
    "DEFAULT_MODEL",
    "MASKS",
    "METHODS",
    "RECORD",
    "LayerRecord",
    "LoadedModel",
    "ModelReport",
    "PackedMask",
    "Perplexity",
    "PrunedLayer",
    "Recipe",
    "StreamedModel",
    "Windows",
    "calibration_windows",
    "check_options",
    "discard_progress",
    "evaluation_windows",
    "finished_run",
    "load_model",
    "perplexity",
    "prune_checkpoint",
    "prune_model",
    "read_masks",
    "refuse_unusable",
    "relative_error",
    "save_checkpoint",
    "stamp",
    "stream_model",
    "versions",
]
