"""Recipes: TOML files with the plan of a run."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reference.patterns import SWITCHES, Ablation, parse_pattern
from thanos_torch.pruning.plan import DENSE, Choice, Dense, LayerOptions, Rule, Rules
from thanos_torch.runtime.arguments import checked
from thanos_torch.runtime.strangers import printable, shown

# Keys that may be set at the top of the file, for all layers, and in each rule, with their types.
_TYPES: dict[str, tuple[type, ...]] = {
    "pattern": (str,),
    "method": (str,),
    "block_size": (int,),
    "damping": (float, int),
    "refit": (int,),
    **{name: (type(choices[0]),) for name, choices in SWITCHES.items()},
}
_KINDS = {str: "text", bool: "true or false"}  # other types are numbers
_FIELDS = {"refit": "refit_steps"}  # keys for which `LayerOptions` has another name
_KEYS = {field: key for key, field in _FIELDS.items()}


@checked()
def read_recipe(file: Path, fallback: Mapping[str, Any]) -> Rules:
    """Read the rules of a recipe.

    fallback  values for keys that the file does not set: "pattern" (a text, may be missing),
              "method", "block_size", "damping", "refit"; switches of thanos may be missing

    The last rule that matches a layer decides. Keys that it does not set come from the top of the
    file, then from `fallback`. Raises ValueError that names the file, the rule and the value.
    """
    content = _parsed(file)
    written = content.pop("rules", [])
    if not isinstance(written, list) or not all(isinstance(rule, dict) for rule in written):
        raise ValueError(f"{file}: rules must be tables, [[rules]], got {shown(written)}")
    if "pattern" in content and "pattern" in fallback:
        raise ValueError(
            f"{file}: pattern = {shown(content['pattern'])} stands in the recipe, and "
            f"{fallback['pattern']!r} beside it: give one of them"
        )
    _check_keys(str(file), content)
    top = {**fallback, **content}
    default = _choice(str(file), top) if "pattern" in top else None
    rules = [_rule(f"{file}, rule {n}", top, rule) for n, rule in enumerate(written, 1)]
    return Rules(default, tuple(rules))


def _parsed(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"recipe {file} cannot be read: {error.strerror}") from error
    except ValueError as error:  # not UTF-8, or no TOML
        raise ValueError(f"recipe {file} is not TOML: {printable(str(error))}") from error
    except RecursionError:
        raise ValueError(f"recipe {file} nests too deeply") from None


def _rule(source: str, top: Mapping[str, Any], rule: dict[str, Any]) -> Rule:
    said = dict(rule)
    layers = said.pop("layers", None)
    globs = [layers] if isinstance(layers, str) else layers
    if not isinstance(globs, list) or not globs or not all(isinstance(g, str) for g in globs):
        raise ValueError(f"{source}: layers must be a glob or a list of globs, got {shown(layers)}")
    _check_keys(source, said)
    merged = {**top, **said}
    if "pattern" not in merged:
        raise ValueError(f"{source}: pattern is missing, and there is none for all layers")
    if said.get("pattern") == DENSE and len(said) > 1:
        others = ", ".join(key for key in said if key != "pattern")
        raise ValueError(f'{source}: pattern = "{DENSE}" leaves no use for {others}')
    return Rule(tuple(globs), _choice(source, merged), source)


def _check_keys(source: str, said: Mapping[str, Any]) -> None:
    for key, value in said.items():
        if key not in _TYPES:
            raise ValueError(f"{source}: unknown key {shown(key)}, known are {', '.join(_TYPES)}")
        types = _TYPES[key]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            kind = _KINDS.get(types[0], "a number")
            raise ValueError(f"{source}: {key} must be {kind}, got {shown(value)}")


def _choice(source: str, said: Mapping[str, Any]) -> Choice:
    if said["pattern"] == DENSE:
        return Dense(f"dense by {source}")
    try:
        options = LayerOptions(
            parse_pattern(said["pattern"]),
            method=said["method"],
            block_size=said["block_size"],
            damping=float(said["damping"]),
            refit_steps=said["refit"],
            ablation=Ablation(**{name: said[name] for name in SWITCHES if name in said}),
        )
        options.check()
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{source}: {error}") from None
    return options


def stored_options(source: str, stored: Mapping[str, Any]) -> LayerOptions:
    """The options of one layer, from what `LayerOptions.as_dict` stored.

    source  where they were stored, for messages

    Raises ValueError for options that are missing, of a wrong type, or unknown.
    """
    try:
        said = {_KEYS.get(name, name): value for name, value in dict(stored).items()}
        said |= dict(said.pop("ablation", {}))
        _check_keys(source, said)
        choice = _choice(source, said)
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"{source}: {error!r}") from error
    if isinstance(choice, Dense):
        raise ValueError(f"{source}: a dense layer has none")
    return choice


def recipe_lines(asked: Mapping[str, Any]) -> list[str]:
    """The lines of a recipe that asks for the same as `asked`, a result of `Rules.as_dict`."""
    top = asked["default"] or {}
    lines = _option_lines(top, {})
    for rule in asked["rules"]:
        said = _option_lines(rule, top.get("ablation", {}))
        lines += ["", "[[rules]]", f"layers = {json.dumps(rule['layers'])}", *said]
    return lines


def _option_lines(asked: Mapping[str, Any], above: Mapping[str, Any]) -> list[str]:
    """The lines for some options. A rule resets the switches that are changed `above` it."""
    options = {**asked, **asked.get("ablation", {})}
    if asked and asked["pattern"] != DENSE:
        options = {**{name: SWITCHES[name][0] for name in above}, **options}
    # JSON's texts and numbers are valid TOML.
    return [
        f"{key} = {json.dumps(options[name])}"
        for key, name in ((key, _FIELDS.get(key, key)) for key in _TYPES)
        if name in options
    ]
