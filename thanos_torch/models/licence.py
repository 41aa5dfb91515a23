"""The licence of a model, as its card says."""

from pathlib import Path

from thanos_torch.models.loading import DEFAULT_MODEL


def base_licence(source: str) -> str | None:
    """The licence that the card of a model names, as model hubs write it; None if none says so.

    source  as for `load_model`
    """
    if source == DEFAULT_MODEL:
        return "apache-2.0"  # the wheel that it comes from has no card
    path = Path(source)
    if path.is_file():
        return None
    if path.is_dir():
        return _named_in(path / "README.md")
    from transformers.utils.hub import cached_file

    try:
        card = cached_file(source, "README.md")
    except OSError:  # no card, or no hub
        return None
    return _named_in(Path(card)) if card else None


def _named_in(card: Path) -> str | None:
    from huggingface_hub import ModelCard

    try:
        named = ModelCard.load(card, ignore_metadata_errors=True).data.get("license")
    except Exception:  # no README, or front matter that is no YAML: its reader raises what it likes
        return None
    return named if isinstance(named, str) else None
