"""What was asked for each layer of a pruned model, and who says so."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from thanos_torch.models.recipe import LayerOptions, switch_words
from thanos_torch.models.recipe_file import stored_options
from thanos_torch.models.rules import Rules, Shapes

_PLAIN = {
    "method": "method",
    "block_size": "block size",
    "damping": "damping",
    "refit_steps": "refit steps",
}
_DEFAULTS = {each.name: each.default for each in fields(LayerOptions) if each.name in _PLAIN}
_NAMED = 3  # dense layers that are named


@dataclass(frozen=True)
class Asked:
    """What was asked for.

    source   who says so, for people
    options  for each layer that should be pruned
    """

    source: str
    options: dict[str, LayerOptions]

    @classmethod
    def by_rules(cls, source: str, rules: Rules, shapes: Shapes) -> "Asked":
        """What rules ask for the layers of a model, (c, b) by name. ValueError as `Rules.plan`."""
        plan = rules.plan(shapes)
        return cls(source, {n: each for n, each in plan.items() if isinstance(each, LayerOptions)})

    @classmethod
    def by_record(cls, source: str, record: Mapping[str, Any]) -> "Asked":
        """What `thanos.json` says was asked for. ValueError if a layer's options are none."""
        options = {
            str(layer["name"]): stored_options(f"options of {layer['name']}", layer["options"])
            for layer in record["layers"]
            if layer["options"]
        }
        return cls(source, options)

    def dense(self, layers: Mapping[str, object]) -> list[str]:
        """The layers of a model that should be left dense."""
        return [name for name in layers if name not in self.options]

    def groups(self) -> list[tuple[LayerOptions, int]]:
        """Each combination of options, and for how many layers."""
        return list(Counter(self.options.values()).items())

    def unusual(self, layers: Mapping[str, object]) -> list[str]:
        """Every value that is not the default, for people, and the layers left dense."""
        counts: Counter[str] = Counter()
        for options in self.options.values():
            for name, default in _DEFAULTS.items():
                value = getattr(options, name)
                if value != default:
                    counts[f"{_PLAIN[name]} {value} (default {default})"] += 1
            counts.update(switch_words(options.ablation.changed()))
        pruned, dense = len(self.options), self.dense(layers)
        lines = [f"{what} in {number} of {pruned} layers" for what, number in counts.items()]
        if dense:
            names = ", ".join(dense[:_NAMED]) + (", ..." if len(dense) > _NAMED else "")
            lines.append(f"{len(dense)} of {len(layers)} layers left dense ({names})")
        return lines
