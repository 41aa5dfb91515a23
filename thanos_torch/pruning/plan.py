"""The plan of a run: which layers are pruned, by which method and pattern."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from torch import Tensor

from reference.patterns import (
    Ablation,
    Pattern,
    SemiStructured,
    Unstructured,
    parse_pattern,
    refuse_outlier_rows,
    refuse_switches,
)
from thanos_torch.checkpoint.record import Judge, LayerVerdict, ModelReport, layer_kind
from thanos_torch.methods.baselines import magnitude, sparsegpt, wanda
from thanos_torch.methods.checks import Checks
from thanos_torch.methods.devices import is_host
from thanos_torch.methods.factor import FactorCache
from thanos_torch.methods.refit import refit
from thanos_torch.methods.result import Pruned
from thanos_torch.methods.thanos import thanos
from thanos_torch.network.layers import (
    count_weights,
    dtype_name,
    is_router,
    other_weights,
)
from thanos_torch.network.observe import Observation
from thanos_torch.runtime.arguments import check_types

PAPER = Ablation()
DENSE = "dense"  # in the place of a pattern: layers that stay as they are
METHODS: dict[str, Callable[..., Pruned]] = {
    "thanos": thanos,
    "magnitude": magnitude,
    "wanda": wanda,
    "sparsegpt": sparsegpt,
}
FACTORISING = ("thanos", "sparsegpt")  # methods that take a `FactorCache`


@dataclass(frozen=True)
class LayerOptions:
    """How a layer is to be pruned; the fields are explained at `prune_model`."""

    pattern: Pattern
    method: str = "thanos"
    block_size: int = 128
    damping: float = 0.01
    refit_steps: int = 0
    ablation: Ablation = PAPER

    def check(self) -> None:
        """Raise ValueError for options that fit no layer."""
        check_types(vars(self), LayerOptions)
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        if self.method != "thanos":
            refuse_outlier_rows(self.method, self.pattern)
            refuse_switches(self.method, self.ablation)
        self.ablation.check()
        if self.block_size < 1:
            raise ValueError(f"block_size must be at least 1, got {self.block_size}")
        if not 0 < self.damping < math.inf:
            raise ValueError(f"damping must be positive and finite, got {self.damping}")
        if self.refit_steps < 0:
            raise ValueError(f"refit_steps must not be negative, got {self.refit_steps}")

    def check_layer(self, name: str, shape: tuple[int, int]) -> None:
        """Raise ValueError, naming the layer, if the pattern does not fit its shape (c, b).

        A pattern that removes no weight of the layer, or all of them, does not fit.
        """
        try:
            self.pattern.check(*shape, self.block_size)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        count, weights = self.removed(shape), shape[0] * shape[1]
        if count in (0, weights):
            raise ValueError(
                f"{name}: {self.pattern} removes {'all' if count else 'none'} of its {weights} "
                f'weights: choose another share, or exclude the layer ("{DENSE}" in a recipe)'
            )

    def removed(self, shape: tuple[int, int]) -> int:
        """How many weights of a (c, b) layer are removed: the counts of spec sections 2 and 6."""
        pattern, (rows, columns) = self.pattern, shape
        if isinstance(pattern, Unstructured):
            if self.method == "wanda":
                return rows * pattern.removed(columns)
            return pattern.removed(rows * columns)
        rows -= pattern.outliers(rows)
        if isinstance(pattern, SemiStructured):
            return rows * columns // pattern.m * pattern.n
        return rows * pattern.removed(columns)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: the pattern as text, and only those switches that are changed."""
        changed = self.ablation.changed()
        plain = {name: value for name, value in vars(self).items() if name != "ablation"}
        return {
            **plain,
            "pattern": str(self.pattern),
            **({"ablation": changed} if changed else {}),
        }

    def described(self) -> str:
        """Method, pattern and changed switches, for people."""
        return ", ".join([self.method, str(self.pattern), *switch_words(self.ablation.changed())])

    def in_full(self) -> str:
        """All options, for people."""
        plain = f"{self.method}, {self.pattern}, block size {self.block_size}"
        refit = [f"refit {self.refit_steps} steps"] if self.refit_steps else []
        words = switch_words(self.ablation.changed())
        return ", ".join([plain, f"damping {self.damping:g}", *refit, *words])

    def prune(
        self, weight: Tensor, gram: Tensor, factors: FactorCache | None = None
    ) -> tuple[Pruned, Pruned]:
        """The method's result, and the result to keep: its refit, or the same again.

        weight (c, b) and gram (b, b), float32 or float64; factors as for `thanos`. Raises
        ValueError.
        """
        pruned = self.before_refit(weight, gram, factors)
        return pruned, self.refitted(weight, gram, pruned)

    def before_refit(
        self,
        weight: Tensor,
        gram: Tensor,
        factors: FactorCache | None = None,
        checks: Checks | None = None,
    ) -> Pruned:
        """The method's result alone; `checks` as for `thanos`."""
        shared = {"factors": factors} if self.method in FACTORISING else {}
        return METHODS[self.method](
            weight,
            gram,
            self.pattern,
            block_size=self.block_size,
            damping=self.damping,
            checks=checks,
            **shared,
            **self.ablation.changed(),
        )

    def refitted(self, weight: Tensor, gram: Tensor, pruned: Pruned) -> Pruned:
        """The result to keep: the refit of the method's result, or the same again."""
        if not self.refit_steps:
            return pruned
        return refit(weight, gram, pruned, steps=self.refit_steps, damping=self.damping)

    def verdict(
        self, judge: Judge | None, weight: Tensor, gram: Tensor, pruned: Pruned, kept: Pruned
    ) -> LayerVerdict | None:
        """The judge's verdict on a layer and on the results of `prune`; None without a judge."""
        if judge is None:
            return None
        return self.ask(
            judge,
            weight,
            gram,
            pruned.weight,
            kept.weight if self.refit_steps else None,
            mask=_given(pruned.mask),
            arithmetic=dtype_name(weight.dtype),
            block_losses=_given(pruned.block_losses),
        )

    def ask(
        self,
        judge: Judge,
        weight: Tensor,
        gram: Tensor,
        pruned_weight: Tensor,
        refitted_weight: Tensor | None,
        **more: Any,
    ) -> LayerVerdict:
        """Ask a judge whether a layer was pruned as these options say.

        weight, pruned_weight, refitted_weight (c, b); gram (b, b); more keywords of the judge
        """
        return judge(
            _given(weight),
            _given(gram),
            _given(pruned_weight),
            self.pattern,
            method=self.method,
            block_size=self.block_size,
            damping=self.damping,
            refitted_weight=None if refitted_weight is None else _given(refitted_weight),
            **self.ablation.changed(),
            **more,
        )


@dataclass(frozen=True)
class Dense:
    """A layer is to stay dense, and why."""

    reason: str

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"pattern": DENSE}

    def removed(self, shape: tuple[int, int]) -> int:
        """No weights, as `LayerOptions.removed`."""
        return 0


Choice: TypeAlias = LayerOptions | Dense
Plan: TypeAlias = dict[str, Choice]
Shapes: TypeAlias = Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Rule:
    """What is asked for the layers that match any of some globs.

    source  where the rule was written, for messages
    """

    layers: tuple[str, ...]
    choice: Choice
    source: str


@dataclass(frozen=True)
class Rules:
    """The choice for each layer of a model, by globs on layer names.

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
        """What is done to every layer, in the order of `shapes`, (c, b) by name.

        Raises ValueError for a glob that matches no layer, a rule that decides for none, a layer
        that no rule decides for, a pattern that does not fit its layer, and bad options; and if no
        layer would be pruned.
        """
        check_types(vars(self), Rules)
        for rule in self.rules:
            check_types(vars(rule), Rule)
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
        """JSON-able: all that is asked, recipes resolved."""
        return {
            "default": self.default.as_dict() if self.default else None,
            "rules": [
                {"layers": list(each.layers), **each.choice.as_dict()} for each in self.rules
            ],
            "include": list(self.include),
            "exclude": list(self.exclude),
        }

    def choices(self) -> list[Choice]:
        """The default and every rule's choice."""
        return [*([self.default] if self.default else []), *(rule.choice for rule in self.rules)]

    def unasked(self, others: Mapping[str, int]) -> dict[str, int]:
        """Those of some weights that nobody asked to leave alone, though no run prunes them.

        others  full names of parameters, and their sizes, as of `other_weights`

        Who excludes or does not include a weight, or asks for dense where it lies, asks for that.
        """
        return {name: size for name, size in others.items() if self._wants(_layer_name(name))}

    def _wants(self, name: str) -> bool:
        def matches(globs: Sequence[str]) -> bool:
            return any(fnmatchcase(name, glob) for glob in globs)

        deciding = [rule.choice for rule in self.rules if matches(rule.layers)]
        choice = deciding[-1] if deciding else self.default
        left_out = matches(self.exclude) or (self.include and not matches(self.include))
        return isinstance(choice, LayerOptions) and not left_out

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
        """The last matching rule of each layer. Raises ValueError for rules that decide nothing."""
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


def begin_report(seen: Observation, rules: Rules, seconds: dict[str, float]) -> ModelReport:
    """The report on a model before its first layer: what its decoder blocks hold.

    seconds  by stage, which the run adds to
    """
    others = other_weights(seen.blocks)
    return ModelReport(
        [],
        [*others, *seen.beside],
        seconds,
        {},
        block_weights=count_weights(seen.blocks.values()),
        unasked=rules.unasked(others),
    )


def rules_for(asked: str | Pattern | Rules, **options: Any) -> Rules:
    """The given rules, or rules that ask for one pattern, also as text, in all layers.

    options  further fields of `LayerOptions`, which rules that are given do not need

    Raises ValueError for a text that is no pattern.
    """
    if isinstance(asked, Rules):
        return asked
    pattern = parse_pattern(asked) if isinstance(asked, str) else asked
    if not isinstance(pattern, Pattern):
        raise ValueError(f'pattern must be a pattern or its text, such as "2:4", got {pattern!r}')
    return Rules(LayerOptions(pattern, **options))


def kinds_of_others(others: Sequence[str]) -> dict[str, list[str]]:
    """The names in a report's `others`, by what these matrices are, for people."""
    kinds: dict[str, list[str]] = {}
    for name in others:
        kind = "Routers" if is_router(name) else "Matrices that are no linear layers of the blocks"
        kinds.setdefault(kind, []).append(name)
    return kinds


def _layer_name(parameter: str) -> str:
    """The name by which globs know a parameter: that of its module if it is called weight."""
    return parameter.removesuffix(".weight")


def matching(glob: str, names: Sequence[str], source: str) -> list[str]:
    """The names that match a glob. Raises ValueError with similar names if none does.

    source  where the glob was written, for the message
    """
    found = [name for name in names if fnmatchcase(name, glob)]
    if not found:
        near = _near_misses(glob, names)
        raise ValueError(
            f"{source}: {glob!r} matches none of the {len(names)} layers that can be pruned "
            f"(never the output head, embeddings and routers); near misses: {', '.join(near)}"
        )
    return found


def _near_misses(glob: str, names: Sequence[str]) -> list[str]:
    """Layer names and globs like "*.q_proj" that are similar to `glob`; else all such globs."""
    kinds = list(dict.fromkeys(map(_glob_of_kind, names)))
    alike = get_close_matches(glob, [*kinds, *names], n=3)
    return alike or kinds


def _glob_of_kind(name: str) -> str:
    """A glob for all layers of the kind of one."""
    kind = layer_kind(name)
    return f"*.{kind}" if name.endswith(kind) else f"*.{kind}.*"


def switch_words(changed: Mapping[str, object]) -> list[str]:
    """Switches in their text form, as `thanos prune --ablation` reads it: `adaptive=false`."""
    return [f"{name}={str(value).lower()}" for name, value in changed.items()]


def default_judge(*args: Any, **options: Any) -> LayerVerdict:
    """Call `verification.certify`, which is imported only when the first layer is judged."""
    from verification import certify

    return certify(*args, **options)


def _given(tensor: Tensor) -> Any:
    """A tensor for a judge: itself on a device, where it is judged, else an array of NumPy.

    NumPy has no bfloat16; float32 holds all of its numbers, and those of float16.
    """
    if not is_host(tensor.device):
        return tensor
    half = tensor.is_floating_point() and tensor.element_size() == 2
    return (tensor.float() if half else tensor).numpy()
