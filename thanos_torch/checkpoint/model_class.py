"""Read a model's config, and choose the class that Transformers builds it with."""

from typing import Any

import torch

from thanos_torch.network.kind import class_names, refuse_encoder_decoder
from thanos_torch.runtime.strangers import printable, shown

MOST_LAYERS = 1000  # of a model, unless its checkpoint has more tensors than that
# The automatic classes of Transformers for models that write text, the narrowest first.
_AUTOMATIC = ("AutoModelForCausalLM", "AutoModelForImageTextToText", "AutoModelForMultimodalLM")


def read_config(source: str, *, trust_remote_code: bool = False, **options: Any) -> Any:
    """Read the config of a folder or a hub id; with `gguf_file` of that file in a folder.

    Raises ValueError for models that cannot be pruned, whatever their weights: quantised ones, and
    encoder-decoders.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code, **options)
    refuse_encoder_decoder(config, printable(_architecture(config)))
    if getattr(config, "quantization_config", None):
        raise ValueError(
            "config.json has a quantization_config: quantised models cannot be pruned, "
            "dequantise it first"
        )
    return config


def _architecture(config: Any) -> str:
    """The name of the model's class as its config has it, or else the type of the model."""
    return (class_names(config) or [str(config.model_type)])[0]


def build_model(config: Any, dtype: torch.dtype, trust_remote_code: bool) -> Any:
    """A model of a config, with fresh weights on the device of the surrounding context."""
    chosen = model_class(config, trust_remote_code)
    if hasattr(chosen, "from_config"):
        return chosen.from_config(config, dtype=dtype, trust_remote_code=trust_remote_code)
    return chosen._from_config(config, dtype=dtype)


def model_class(config: Any, trust_remote_code: bool) -> Any:
    """The class whose `from_pretrained` loads a model: an automatic one, or the model's own.

    The model's own code comes first if it is trusted. Next comes the class that `architectures`
    names, if it is registered for models that write text: some configs are those of two models, one
    of images and text, and one of its text part alone. Next comes what is registered for the
    config. Raises ValueError if there is nothing of all that.
    """
    import transformers

    automatic = [getattr(transformers, name) for name in _AUTOMATIC]
    code = getattr(config, "auto_map", None) or {}
    coded = [each for each in automatic if each.__name__ in code]
    known = [each for each in automatic if type(config) in each._model_mapping]
    exact = [each for each in known if {*class_names(config)} & {*_registered(each, config)}]
    # Code that is not trusted comes last: Transformers then says how to trust it.
    order = [*coded, *exact, *known] if trust_remote_code else [*exact, *known, *coded]
    if order:
        return order[0]
    if "AutoModel" in code:
        return transformers.AutoModel
    own: Any = getattr(transformers, _architecture(config), None)
    # Some text parts of larger models are registered nowhere.
    if getattr(own, "config_class", None) is type(config) and own.can_generate():
        return own
    raise ValueError(
        f"{printable(_architecture(config))} is no language model: for its type "
        f"{printable(str(config.model_type))} Transformers has none under {', '.join(_AUTOMATIC)}"
    )


def _registered(automatic: Any, config: Any) -> list[str]:
    """The names of the classes that an automatic class has for a config."""
    found = automatic._model_mapping[type(config)]
    return [each.__name__ for each in (found if isinstance(found, tuple) else (found,))]


def refuse_endless(config: Any, tensors: int = 0) -> None:
    """Raise ValueError for a config with so many layers that to build them would not end.

    tensors  how many the checkpoint has
    """
    waiting = [config.to_dict()]
    while waiting:
        values = waiting.pop()
        waiting += [each for each in values.values() if isinstance(each, dict)]
        for name, value in values.items():
            many = isinstance(value, int) and value > max(MOST_LAYERS, tensors)
            if many and str(name).endswith(("layer", "layers", "blocks")):
                raise ValueError(
                    f"config.json says {printable(str(name))} = {shown(value)}, "
                    f"more than {max(MOST_LAYERS, tensors)}"
                )
