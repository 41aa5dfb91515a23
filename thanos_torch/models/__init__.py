"""Whole Hugging Face models: load, prune, save, measure. Needs the extra `models`."""

from thanos_torch.models.blocks import decoder_blocks, prunable_layers
from thanos_torch.models.checkpoint import finished_run, refuse_occupied, save_checkpoint
from thanos_torch.models.loading import DEFAULT_MODEL, LoadedModel, load_model
from thanos_torch.models.perplexity import Perplexity, perplexity
from thanos_torch.models.pruning import METHODS, LayerRecord, ModelReport, PrunedLayer, prune_model
from thanos_torch.models.text import DEFAULT_DATASET, calibration_windows, evaluation_windows

__all__ = [
    "DEFAULT_DATASET",
    "DEFAULT_MODEL",
    "METHODS",
    "LayerRecord",
    "LoadedModel",
    "ModelReport",
    "Perplexity",
    "PrunedLayer",
    "calibration_windows",
    "decoder_blocks",
    "evaluation_windows",
    "finished_run",
    "load_model",
    "perplexity",
    "prunable_layers",
    "prune_model",
    "refuse_occupied",
    "save_checkpoint",
]
