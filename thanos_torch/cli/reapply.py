"""`thanos reapply`: the zeros of a pruned model, again after fine-tuning."""

from pathlib import Path
from typing import Annotated

import typer

from thanos_torch.cli.display import say
from thanos_torch.models import reapply_checkpoint


def reapply(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of the fine-tuned checkpoint.")],
    masks: Annotated[Path, typer.Option(help="The pruned checkpoint, or its masks.safetensors.")],
    out: Annotated[Path, typer.Option(help="New or empty folder for the result.")],
) -> None:
    """Set the weights that pruning had removed to zero again."""
    lost = reapply_checkpoint(checkpoint, masks, out)
    layers = sum(count > 0 for count in lost.values())
    say(
        f"{sum(lost.values())} removed weights in {layers} of {len(lost)} layers were not zero "
        f"and are again. Written to {out}."
    )
