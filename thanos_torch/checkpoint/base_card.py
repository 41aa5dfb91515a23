"""What a base model says of itself, for the card of the pruned one: its licence and its name."""

import re
from pathlib import Path
from typing import Any

from thanos_torch.checkpoint.hub import REPOSITORY, hub_model
from thanos_torch.checkpoint.named import NAMED
from thanos_torch.runtime.arguments import checked

CARD = "README.md"
IN_CACHE = re.compile(r"models--([\w.-]+?)--([\w.-]+)", re.ASCII)  # a model in a hub's cache


@checked()
def base_licence(source: str) -> str | None:
    """The licence in the card of a model, spelt as model hubs do; None if there is none.

    source  as for `load_model`
    """
    if source in NAMED:
        return NAMED[source].licence  # the wheels that it comes from have no card
    named = _card(source).get("license")
    return named if isinstance(named, str) else None


@checked()
def base_model(source: str) -> list[str]:
    """The hub ids that the `base_model` of a pruned model's card names; empty if none is known.

    source  as for `load_model`

    A hub model is known by its id, in the hub's cache too. A folder of another kind may have a
    card: then it is what that card says the model comes from. `_name_or_path` in config.json is
    not asked, because it may be a path on a stranger's disk, which looks like a hub id.
    """
    if source in NAMED:
        return [NAMED[source].base_model]
    path = Path(source)
    if not path.exists():
        model = hub_model(source)
        return [model.repository] if model else []
    for folder in path.resolve().parents:
        if found := IN_CACHE.fullmatch(folder.name):
            return ["/".join(found.groups())]
    named = _card(source).get("base_model")
    ids = named if isinstance(named, list) else [named]
    return [each for each in ids if isinstance(each, str) and REPOSITORY.fullmatch(each)]


def _card(source: str) -> dict[str, Any]:
    """The front matter of a model's card; empty without one, or for a .gguf file, which has none.

    A card beside a .gguf file is not its own: the folder may hold many files.
    """
    path = Path(source)
    if path.is_file():
        return {}
    if path.is_dir():
        return _front_matter(path / CARD)
    from transformers.utils.hub import cached_file

    try:
        model = hub_model(source)
        card = cached_file(model.repository, CARD, revision=model.revision) if model else None
    except OSError:  # no card, or no hub
        return {}
    return _front_matter(Path(card)) if card else {}


def _front_matter(card: Path) -> dict[str, Any]:
    from huggingface_hub import ModelCard

    try:
        return dict(ModelCard.load(card, ignore_metadata_errors=True).data.to_dict())
    except Exception:  # no README, or a reader that fails on its front matter
        return {}
