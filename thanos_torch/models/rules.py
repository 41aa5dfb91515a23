"""Which layers of a model are pruned, and each of them how."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from thanos_torch.models.globs import matching
from thanos_torch.models.recipe import LayerOptions

DENSE = "dense"


@dataclass(frozen=True)
class Dense:
    """Asked for: a layer that is left as it is, and why."""

    reason: str


Choice: TypeAlias = LayerOptions | Dense
Plan: TypeAlias = dict[str, Choice]
Shapes: TypeAlias = Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Rule:
    """What is asked for the layers that match one of some globs.

    source  where the rule stands, for messages
    """

    layers: tuple[str, ...]
    choice: Choice
    source: str


@dataclass(frozen=True)
class Rules:
    """What is asked for each layer of a model.

    default  for layers that no rule matches; None refuses them
    rules    the LAST rule that matches a layer decides, alone
    include  globs on full layer names: others stay dense; empty means all
    exclude  globs: these stay dense, whatever else is said
    """

    default: Choice | None = None
    rules: tuple[Rule, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def plan(self, shapes: Shapes) -> Plan:
        """What happens to every layer, in the order of `shapes`, (c, b) by name.

        Raises ValueError for a glob or a rule without a layer, for layers that nothing is said
        of or that their pattern does not fit, for bad options, and if none is left to prune.
        """
        for choice in self.choices():
            if isinstance(choice, LayerOptions):
                choice.check()
        plan = self._chosen(shapes)
        for name, choice in plan.items():
            if isinstance(choice, LayerOptions):
                choice.check_layer(name, shapes[name])
        if all(isinstance(choice, Dense) for choice in plan.values()):
            raise ValueError("every layer would be left dense: nothing is left to prune")
        return plan

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: all that is asked, with nothing left to look up."""
        return {
            "default": _as_dict(self.default) if self.default else None,
            "rules": [
                {"layers": list(rule.layers), **_as_dict(rule.choice)} for rule in self.rules
            ],
            "include": list(self.include),
            "exclude": list(self.exclude),
        }

    def choices(self) -> list[Choice]:
        """All that is asked for some layer."""
        return [*([self.default] if self.default else []), *(rule.choice for rule in self.rules)]

    def _chosen(self, shapes: Shapes) -> Plan:
        names = list(shapes)
        deciding = self._deciding_rules(names)
        included = set(names)
        if self.include:
            included = {n for glob in self.include for n in matching(glob, names, "--include")}
        excluded = {n for glob in self.exclude for n in matching(glob, names, "--exclude")}
        plan: Plan = {}
        for name in names:
            rule = deciding.get(name)
            choice = rule.choice if rule else self.default
            if name in excluded:
                choice = Dense("excluded")
            elif name not in included:
                choice = Dense("not included")
            if choice is None:
                raise ValueError(
                    f"no rule matches {name} and no pattern is given for the rest: "
                    f'give one, or "{DENSE}"'
                )
            plan[name] = choice
        return plan

    def _deciding_rules(self, names: list[str]) -> dict[str, Rule]:
        """The last rule that matches, by layer; ValueError for rules that decide nothing."""
        deciding: dict[str, Rule] = {}
        for rule in self.rules:
            for glob in rule.layers:
                deciding |= dict.fromkeys(matching(glob, names, rule.source), rule)
        for rule in self.rules:
            if not any(rule is other for other in deciding.values()):
                globs = ", ".join(rule.layers)
                raise ValueError(
                    f"{rule.source}: later rules decide for every layer of {globs!r} "
                    "(the last rule that matches a layer decides)"
                )
        return deciding


def _as_dict(choice: Choice) -> dict[str, Any]:
    """JSON-able."""
    return choice.as_dict() if isinstance(choice, LayerOptions) else {"pattern": DENSE}
