"""Transformers' own conversion between checkpoints and models, on a part of a checkpoint.

Names may differ, and some tensors are joined: the experts of Mixtral are one file tensor each and
one parameter together. `from_pretrained` and `save_pretrained` use the same functions.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


class Conversion:
    """Between the tensors of a checkpoint and the parameters and buffers of `model`."""

    def __init__(self, model: Any) -> None:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, WeightRenaming

        self._model = model
        self._transforms: list[Any] = list(get_model_conversion_mapping(model))
        self._renamings = [each for each in self._transforms if isinstance(each, WeightRenaming)]
        self._converters = [each for each in self._transforms if isinstance(each, WeightConverter)]
        self._known = model.state_dict()

    def place(self, name: str) -> tuple[str, bool]:
        """The model's name for a checkpoint's tensor; True if its numbers are rearranged too."""
        from transformers.core_model_loading import rename_source_key

        base = self._model.base_model_prefix
        place, pattern = rename_source_key(
            name, self._renamings, self._converters, base, self._known
        )
        if place not in self._known and name in self._known:
            place, pattern = rename_source_key(name, [], [], base, self._known)
        return str(place), pattern is not None

    def load(self, tensors: Mapping[str, Tensor]) -> Any:
        """Put checkpoint tensors into the model, in the dtypes that `from_pretrained` would choose.

        They may be on the meta device, all of them. Returns Transformers' account of what is
        missing, unexpected, or of another shape.
        """
        from transformers.core_model_loading import convert_and_load_state_dict_in_model
        from transformers.modeling_utils import LoadStateDictConfig

        device = next((tensor.device.type for tensor in tensors.values()), "cpu")
        config = LoadStateDictConfig(
            device_map={"": device},
            dtype=self._model.dtype,
            dtype_plan=self._model._get_dtype_plan(self._model.dtype),
            weight_mapping=self._transforms,
        )
        account, _ = convert_and_load_state_dict_in_model(self._model, dict(tensors), config)
        failed = [*account.conversion_errors.values(), *account.error_msgs]
        if failed:
            raise ValueError(str(failed[0]).splitlines()[0])
        for name, found, expected in account.mismatched_keys:
            raise ValueError(f"{name} has shape {tuple(found)}, expected {tuple(expected)}")
        return account

    def revert(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A part of the model's state as a checkpoint has it. Only after everything was loaded."""
        from transformers.core_model_loading import revert_weight_conversion

        reverted: dict[str, Tensor] = revert_weight_conversion(self._model, dict(state))
        return reverted
